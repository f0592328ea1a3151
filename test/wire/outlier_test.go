package wire_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestOutlierDetectionEjectsAFailingPodAndTakesItBack(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "outlier-detection")
	web := mesh.Caller("web")
	const items = "http://catalog:8080/items"

	// avoided waits until 12 requests in a row, four rounds of all three pods, leave the pod out and succeed. It wants at
	// least three failures before, and the last of them well within the second for which Envoy could hold a change back:
	// in that time many more than eight would fail, where it is not the machine that takes it for a few requests.
	// It gives a time before the ejection.
	avoided := func(t *testing.T, pod string) (before time.Time) {
		t.Helper()
		failed, begun, last := 0, time.Now(), time.Now()
		before = begun
		mesh.Eventually(pod+" is ejected", func() bool {
			round := time.Now()
			got := web.Times(12, items)
			if wire.Statuses(got)[http.StatusOK] == 12 && wire.Pods(got)[pod] == 0 {
				return true
			}
			if n := 12 - wire.Statuses(got)[http.StatusOK]; n > 0 {
				failed, before = failed+n, round
			}
			last = time.Now()
			return false
		})
		if took := last.Sub(begun); failed < 3 || failed > 8 && took > 700*time.Millisecond {
			t.Errorf("%d requests failed for %v before %s was ejected, want 3 and no time", failed, took, pod)
		}
		return before
	}
	returns := func(pod string) {
		mesh.Eventually(pod+" is taken back", func() bool { return wire.Pods(web.Times(3, items))[pod] > 0 })
	}

	mesh.Run("that answers 5xx", func(t *testing.T) {
		bad := mesh.App("catalog-1")
		bad.Does(wire.Answer(http.StatusInternalServerError))
		before := avoided(t, "catalog-1")
		bad.Does(wire.Echo)
		returns("catalog-1")
		if out := time.Since(before); out < 990*time.Millisecond {
			t.Errorf("it was out for at most %v, want a second", out)
		}
	})
	mesh.Run("that refuses connections, though its sidecar answers", func(t *testing.T) {
		mesh.App("catalog-2").Refuse()
		mesh.App("catalog-2").Hangup()
		avoided(t, "catalog-2")
		mesh.App("catalog-2").Accept()
		returns("catalog-2")
	})
	mesh.Run("that breaks connections, though its sidecar answers", func(t *testing.T) {
		mesh.App("catalog-3").Does(wire.Reset)
		avoided(t, "catalog-3")
		mesh.App("catalog-3").Does(wire.Echo)
		returns("catalog-3")
	})
	mesh.Run("but never more than half of them, whoever found them failing", func(t *testing.T) {
		mesh.Apps("catalog").Does(wire.Answer(http.StatusInternalServerError))
		// Long enough for what the pods' own sidecars find to come back by way of the control plane.
		least := 3
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			mesh.Apps("catalog").Forget()
			web.Times(60, items)
			used := 0
			for _, a := range mesh.Apps("catalog") {
				if len(a.Requests()) > 0 {
					used++
				}
			}
			least = min(least, used)
		}
		if least != 2 {
			t.Errorf("%d of 3 failing pods were left in use, want 2", least)
		}
	})
}

func TestWhatAPodsOwnSidecarSeesSparesOtherCallers(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "outlier-detection")
	web, mobile := mesh.Caller("web"), mesh.Caller("mobile")
	const items = "http://catalog:8080/items"
	// It fails for web alone, so what mobile learns it cannot have learned by itself.
	mesh.App("catalog-1").Does(wire.When("x-from", wire.Answer(http.StatusInternalServerError)))
	met := func() bool { return wire.Pods(mobile.Times(9, items))["catalog-1"] > 0 }

	web.Times(9, items, wire.Header("x-from", "web")) // three for each pod
	mesh.Eventually("the pod is left out for mobile", func() bool { return !met() })
	mesh.Eventually("the pod is taken back", met)
	if n := len(mesh.App("catalog-1").Requests()); n == 0 {
		t.Error("the pod was never asked")
	}
}
