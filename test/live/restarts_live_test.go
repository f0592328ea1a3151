package live

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/xds"
)

func TestARestartOfHeddleIsNotNoticed(t *testing.T) {
	for name, run := range map[string]func(*world) *plane{
		"after it was stopped": (*world).serve,
		"after kill -9":        (*world).fork,
	} {
		t.Run(name, func(t *testing.T) {
			w := startWith(t, run)
			one := w.pod("catalog-1")
			catalog := w.service("catalog")
			w.slice("catalog", ready(one))
			w.policy("catalog", generation(1, "timeout: 1m"))
			load := w.load(catalog)
			load.untilGeneration(1)
			before := map[*pod]string{w.web: w.config(w.web), one: w.config(one)}

			for range 2 {
				w.plane.stop()
				load.next(30) // while there is none
				w.plane = run(w)
				w.returned(w.web, one)
				load.next(30)
				for p, config := range before {
					w.wantConfig(p, config)
				}
				if diff := cmp.Diff(map[xds.Type]int{}, w.plane.sent()); diff != "" {
					t.Errorf("resources sent to sidecars that had them (-want +got):\n%s", diff)
				}
			}
			w.policy("catalog", generation(2, "timeout: 1m"))
			load.untilGeneration(2)
			load.finish()
			if diff := cmp.Diff(map[xds.Type]int{xds.Route: 2}, w.plane.sent()); diff != "" {
				t.Errorf("resources sent for an edit of a route (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSidecarsServeWhileHeddleIsAwayForSeconds(t *testing.T) {
	t.Parallel() // it mostly waits
	w := start(t)
	one, two := w.pod("catalog-1"), w.pod("catalog-2")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.policy("catalog", generation(1))
	load := w.load(catalog)
	load.untilGeneration(1)

	w.plane.stop()
	w.policy("catalog", generation(2))
	w.slice("catalog", ready(two))
	if got := generations(load.next(5 * rate)); got["1"] < 5*rate {
		t.Errorf("for 5 s without a control plane answers are under policies %v", got)
	}
	w.plane = w.serve()
	w.returned(w.web, one, two)
	load.untilGeneration(2)
	load.untilOnly(two)
	load.finish()
}

func TestABrokenPolicyStaysAtItsLastGoodVersionAfterARestartAndOnEveryReplica(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.policy("catalog", generation(1, "timeout: 1m"))
	load := w.load(catalog)
	load.untilGeneration(1)
	good := w.plane.policy("catalog").Serving
	w.kept(good)
	w.policy("catalog", generation(2, "timeuot: 5s"))
	w.wantRefused("catalog", good)
	config, served := w.config(w.web), w.versions(w.setting, w.web)
	if len(served) < 8 {
		t.Fatalf("only %d resources are served: %v", len(served), served)
	}

	w.plane.stop()
	w.plane = w.serve()
	w.returned(w.web, one)
	w.wantRefused("catalog", good)
	w.wantConfig(w.web, config)
	if diff := cmp.Diff(map[xds.Type]int{}, w.plane.sent()); diff != "" {
		t.Errorf("resources sent after the restart (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(served, w.versions(w.setting, w.web)); diff != "" {
		t.Errorf("versions after the restart (-before +after):\n%s", diff)
	}

	second := w.setting
	second.Replica = 1
	replica := w.serveOn(second)
	for _, p := range []*pod{w.web, one} {
		if diff := cmp.Diff(w.versions(w.setting, p), w.versions(second, p)); diff != "" {
			t.Errorf("versions for %s (-first +second replica):\n%s", p.name, diff)
		}
	}
	if got := replica.policy("catalog"); got.Accepted || got.Serving != good {
		t.Errorf("on the second replica the policy is %+v, want version %s in force", got, good)
	}
	if got := generations(load.next(50)); got["1"] < 50 {
		t.Errorf("answers are under policies %v, want 1 alone", got)
	}
	load.finish()
}

func TestPodsOfADeletedServiceStayClosedAfterARestartAndOnEveryReplica(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1", "app=catalog")
	catalog := w.service("catalog", selecting("catalog"))
	way := w.service("way") // leads to the same port of the pod, also while catalog is gone
	w.slice("catalog", ready(one))
	w.slice("way", ready(one))
	w.document("catalog", "kind: Access\nservice: catalog\nrules: [{from: ["+w.Namespace+"/*]}]\n")
	eventually(t, "the policy is in force", func() bool { return w.plane.policy("catalog").Accepted })
	w.kept(w.plane.policy("catalog").Hash)
	w.answers(catalog)
	w.answers(way)

	w.deleteService("catalog")
	w.deleteSlice("catalog-http")
	closed := func() bool { return w.ask(way).status == http.StatusForbidden }
	eventually(t, "the pod is closed", closed)
	eventually(t, "the policy says so", func() bool {
		told := w.plane.policy("catalog").Problems
		return len(told) == 1 && strings.Contains(told[0].Message, "any more: this document lets nobody call the pods")
	})
	config, served := w.config(one), w.versions(w.setting, one)

	w.plane.stop()
	w.plane = w.serve()
	w.returned(w.web, one)
	w.wantConfig(one, config)
	if !closed() {
		t.Errorf("after a restart the pod answers %v", w.ask(way))
	}
	second := w.setting
	second.Replica = 1
	replica := w.serveOn(second)
	for name, from := range map[string]setting{"after the restart": w.setting, "on the second replica": second} {
		if diff := cmp.Diff(served, w.versions(from, one)); diff != "" {
			t.Errorf("versions %s (-before +after):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(w.plane.policy("catalog"), replica.policy("catalog")); diff != "" {
		t.Errorf("what the policy's writer is told (-after the restart +on the second replica):\n%s", diff)
	}

	again := w.service("catalog", selecting("catalog"))
	w.slice("catalog", ready(one))
	w.answers(again)
	w.answers(way)
}

// Not parallel to any other test: all use this API server.
func TestLosingTheAPIServerChangesNothingAndItsReturnBringsTheDifference(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1"), w.pod("catalog-2")
	catalog, going := w.service("catalog"), w.service("going")
	w.slice("catalog", ready(one))
	w.slice("going", ready(one))
	w.policy("catalog", generation(1))
	load := w.load(catalog)
	load.untilGeneration(1)
	w.answers(going)
	config, sent := w.config(w.web), w.plane.sent()

	api.Kill(t)
	load.next(2 * rate)
	w.wantConfig(w.web, config)
	api.Resume(t)
	if diff := cmp.Diff(sent, w.plane.sent()); diff != "" {
		t.Errorf("resources sent without an API server (-before +after):\n%s", diff)
	}

	w.policy("catalog", generation(2))
	w.deleteService("going")
	coming := w.service("coming")
	w.slice("coming", ready(two))
	w.slice("catalog", ready(two))
	load.untilGeneration(2)
	load.untilOnly(two)
	w.answers(coming)
	w.refuses(going)
	load.finish()
}

// wantConfig fails the test unless a sidecar still has that configuration.
func (w *world) wantConfig(p *pod, want string) {
	w.t.Helper()
	if now := w.config(p); now != want {
		w.t.Errorf("the configuration of %s changed: %s", p.name, firstDifference(want, now))
	}
}

func TestStreamsThatEndOfAgeAreNotNoticed(t *testing.T) {
	w := startWith(t, func(w *world) *plane {
		return w.serveWith(w.setting, controlplane.Options{StreamAge: 300 * time.Millisecond})
	})
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.policy("catalog", generation(1, "healthCheck: {path: /healthz, interval: 1s}"))
	load := w.load(catalog)
	load.untilGeneration(1)
	before := map[*pod]string{w.web: w.config(w.web), one: w.config(one)}
	sent, ended := w.plane.sent(), w.plane.count(w.id(one), xds.Disconnected)

	eventually(t, "several streams of a sidecar have ended", func() bool { return w.plane.count(w.id(one), xds.Disconnected) >= ended+5 })
	if diff := cmp.Diff(sent, w.plane.sent()); diff != "" {
		t.Errorf("resources sent (-before +after several streams):\n%s", diff)
	}
	for p, config := range before {
		w.wantConfig(p, config)
	}
	w.policy("catalog", generation(2))
	load.untilGeneration(2)
	load.finish()
}
