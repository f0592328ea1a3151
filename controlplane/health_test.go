package controlplane

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds/hds"
)

// looping runs the loop of a plane that nobody dials. ask runs something in it; stop waits for its end, which must be no fault.
func looping(t *testing.T, registry *prometheus.Registry) (p *Plane, state *mesh.State, ask func(func()), stop func()) {
	p, state = New(Options{}), mesh.New(mesh.Options{Namespace: DefaultNamespace})
	p.publisher = newPublisher(state, p.store, newMetrics(registry), p.log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.loop(ctx) }()
	ask = func(f func()) {
		t.Helper()
		if err := p.call(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return p, state, ask, stop
}

func TestAFurtherStreakKeepsCallersAwayForItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, state, ask, stop := looping(t, prometheus.NewRegistry())
		ask(func() {
			p.apply(batch{events: append(benchFacts(1), trafficPolicy("outlier",
				"kind: Traffic\nservice: svc-0000\noutlierDetection: {baseEjection: 30s}\n"))})
		})
		pod := benchPod(0, 0)
		failing := func() (failing bool) {
			t.Helper()
			ask(func() {
				for _, e := range state.Endpoints(benchService(0, "").Key).Ports[0].Endpoints {
					failing = failing || e.Failing && e.Pod == pod.Key
				}
			})
			return failing
		}
		streak := func() { health{p, p.log}.Streak(pod.Key.String(), 8080) }
		for _, step := range []struct {
			after time.Duration
			do    func()
			want  bool
		}{{0, streak, true}, {20 * time.Second, streak, true}, {20 * time.Second, nil, true}, {11 * time.Second, nil, false}} {
			time.Sleep(step.after)
			synctest.Wait()
			if step.do != nil {
				step.do()
			}
			if got := failing(); got != step.want {
				t.Errorf("after %v more: failing %v; want %v", step.after, got, step.want)
			}
		}
		ask(func() {
			if n := len(p.publisher.streaks); n > 0 {
				t.Errorf("%d streaks are remembered after all have ended", n)
			}
		})
		stop()
	})
}

func TestAPodThatFlapsIsPushedOnceASecondAndItsLastWordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		p, state, ask, stop := looping(t, registry)
		ask(func() {
			p.apply(batch{events: append(benchFacts(1), trafficPolicy("checked", "kind: Traffic\nservice: svc-0000\nhealthCheck: {path: /healthz}\n"))})
		})
		pod, other := benchPod(0, 0).Key, benchPod(0, 1).Key
		check := func(k model.Key, s hds.Status) { health{p, p.log}.Checked(k, 8080, s) }
		want := func(when string, reports int, sick ...model.Key) {
			t.Helper()
			var got []model.Key
			ask(func() {
				for _, e := range state.Endpoints(benchService(0, "").Key).Ports[0].Endpoints {
					if !e.Healthy {
						got = append(got, e.Pod)
					}
				}
			})
			if n := reported(t, registry); n != reports || !slices.Equal(got, sick) {
				t.Errorf("%s: %d reports, %v unhealthy; want %d and %v", when, n, got, reports, sick)
			}
		}
		check(pod, hds.Unhealthy)
		want("at first", 1, pod)
		for range 100 {
			check(pod, hds.Healthy)
			check(pod, hds.Unhealthy)
		}
		check(pod, hds.Healthy)
		want("within a second", 1, pod)
		check(other, hds.Unhealthy)
		want("another pod", 2, pod, other)
		time.Sleep(calm)
		synctest.Wait()
		want("after a second", 3, other)
		time.Sleep(calm)
		synctest.Wait()
		want("later", 3, other)
		ask(func() {
			if n := len(p.publisher.standing); n > 0 {
				t.Errorf("%d reports are remembered when all is calm", n)
			}
		})
		stop()
	})
}

// reported is how many findings were taken in.
func reported(t *testing.T, registry *prometheus.Registry) (n int) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "heddle_health_reports_total" {
			for _, m := range f.GetMetric() {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

func TestMetricsNameThePodsThatSidecarsFoundNotToWork(t *testing.T) {
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	p, end := started(t, Options{Source: source, Door: newDoor(t).Door})
	wait(t, "/readyz", func() bool { code, _ := p.asked("/readyz"); return code == http.StatusOK })
	pod := benchPod(0, 0).Key
	line := `heddle_unhealthy{namespace="bench",pod="` + pod.Name + `",port="8080",reason="failure streak"} 1`
	shown := func() bool { _, body := p.asked("/metrics"); return strings.Contains(body, "\n"+line) }
	report := func(healthy bool) {
		t.Helper()
		if err := p.call(t.Context(), func() {
			health{p, p.log}.report(model.HealthReport{Pod: pod, Port: 8080, Healthy: healthy, Reason: model.FailureStreak})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if shown() {
		t.Error("it is shown before it was found")
	}
	report(false)
	if !shown() {
		t.Error("it is not shown")
	}
	report(true)
	wait(t, "its return to be shown", func() bool { return !shown() })
	if err := end(); err != nil {
		t.Error(err)
	}
}
