package wire_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

// alternate behaves as b for every other request, so that no two failures are consecutive.
func alternate(b wire.Behaviour) wire.Behaviour {
	var seen atomic.Int64
	return func(next http.Handler) http.Handler {
		other := b(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1)%2 == 1 {
				other.ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
	}
}

func TestEachOutlierDetectorWorksByItself(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "outlier-detectors")
	web, bad := mesh.Caller("web"), mesh.App("store-1")
	const byGateway, byConnection, byRate = "http://by-gateway:8080/", "http://by-connection:8080/", "http://by-rate:8080/"
	// out says that four rounds of all three pods leave the bad one out.
	out := func(url string) bool {
		bad.Forget()
		web.Times(12, url)
		return len(bad.Requests()) == 0
	}

	mesh.Run("gateway errors, of which another 5xx is none", func(t *testing.T) {
		bad.Does(wire.Answer(http.StatusInternalServerError))
		for range 5 {
			if got := wire.Statuses(web.Times(12, byGateway)); got[http.StatusInternalServerError] != 4 {
				t.Fatalf("answers are %v, want a third from the pod that fails with 500", got)
			}
		}
		for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
			bad.Does(wire.Answer(status))
			mesh.Eventually(fmt.Sprint("a pod that answers ", status, " is ejected"), func() bool { return out(byGateway) })
			bad.Does(wire.Echo)
			mesh.Eventually("it is taken back", func() bool { return !out(byGateway) })
		}
	})
	mesh.Run("failed connections, of which an application's own answer is none", func(t *testing.T) {
		bad.Does(wire.Answer(http.StatusServiceUnavailable))
		for range 5 {
			if got := wire.Statuses(web.Times(12, byConnection)); got[http.StatusServiceUnavailable] != 4 {
				t.Fatalf("answers are %v, want a third from the pod that answers 503", got)
			}
		}
		bad.Does(wire.Echo)
		bad.Refuse()
		bad.Hangup()
		mesh.Eventually("a pod that refuses connections is ejected", func() bool {
			return wire.Statuses(web.Times(12, byConnection))[http.StatusOK] == 12
		})
		bad.Accept()
		mesh.Eventually("it is taken back", func() bool { return !out(byConnection) })
		bad.Does(wire.Reset)
		mesh.Eventually("a pod that breaks connections is ejected", func() bool { return out(byConnection) })
	})
	mesh.Run("success rate, without two failures in a row", func(*testing.T) {
		bad.Does(alternate(wire.Answer(http.StatusInternalServerError)))
		mesh.Eventually("the pod that succeeds half of the time is ejected", func() bool { return out(byRate) })
		bad.Does(wire.Echo)
		mesh.Eventually("it is taken back", func() bool { return !out(byRate) })
	})
}

func TestNoEjectionIsLongerThanTheMaximum(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "outlier-detectors")
	web, bad := mesh.Caller("web"), mesh.App("archive-1") // without a sidecar, so nobody but web ejects it
	bad.Does(wire.Answer(http.StatusInternalServerError))
	met := func() bool {
		bad.Forget()
		web.Times(2, "http://capped:8080/")
		return len(bad.Requests()) > 0
	}

	// How long it is out is told from the request that it failed last until the one that it meets next. Without a maximum
	// these would be a second and a half from the third time on; with it they are 600 ms and what Envoy and the machine
	// take to notice, of which the shortest tells most.
	mesh.Eventually("it fails", met)
	shortest := time.Hour
	for n := range 7 {
		failed := time.Now()
		mesh.Eventually("it is left out", func() bool {
			begun := time.Now()
			if met() {
				failed = begun
				return false
			}
			return true
		})
		mesh.Eventually("it is taken back", met)
		if out := time.Since(failed); n >= 2 {
			shortest = min(shortest, out)
		}
	}
	if shortest < 400*time.Millisecond || shortest > 1400*time.Millisecond {
		t.Errorf("the shortest of the later ejections took %v, want 600 ms", shortest)
	}
}

func TestHashedRequestsMeetAFailingPodOnlyAsALastResort(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "outlier-detectors")
	web, bad := mesh.Caller("web"), mesh.App("cart-1")
	// pods are those that the requests of 40 users were answered by.
	pods := func(service string) map[string]int {
		var all []*wire.Response
		for i := range 40 {
			all = append(all, web.Get("http://"+service+":8080/", wire.Header("x-user", fmt.Sprint("user-", i))))
		}
		return wire.Pods(all)
	}
	for _, service := range []string{"by-ring", "by-table"} {
		if got := pods(service); len(got) != 2 || got[""] != 0 {
			t.Fatalf("%s: answers came from %v, want both pods", service, got)
		}
	}

	// It fails for somebody else, so what web learns it cannot have learned by itself.
	bad.Does(wire.When("x-fail", wire.Answer(http.StatusInternalServerError)))
	mesh.Outsider().Times(3, "http://cart-1:8080/", wire.Header("x-fail", "yes"))
	for _, service := range []string{"by-ring", "by-table"} {
		mesh.Eventually(service+" leaves the failing pod alone", func() bool { return pods(service)["cart-2"] == 40 })
	}

	// The other one is ejected by web itself, as it fails for web.
	mesh.App("cart-2").Does(wire.When("x-fail", wire.Answer(http.StatusInternalServerError)))
	for _, service := range []string{"by-ring", "by-table"} {
		web.Times(3, "http://"+service+":8080/", wire.Header("x-fail", "yes"))
		mesh.Eventually(service+" goes to the failing pod, as nothing else is left", func() bool { return pods(service)["cart-1"] == 40 })
	}
}
