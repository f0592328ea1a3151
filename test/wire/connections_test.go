package wire_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestConnectionsToTheApplicationAreAsThePolicySays(t *testing.T) {
	mesh := wire.Start(t, "connections")
	web := mesh.Caller("web")

	mesh.Run("HTTP/2, though the caller speaks HTTP/1.1", func(t *testing.T) { wantProto(t, web.Get("http://modern:8080/"), "HTTP/2.0") })
	mesh.Run("HTTP/1.1, though the caller speaks HTTP/2", func(t *testing.T) {
		wantProto(t, web.HTTP2().Get("http://classic:8080/"), "HTTP/1.1")
	})
	mesh.Run("closed after some requests", func(t *testing.T) {
		for _, got := range web.Times(6, "http://fleeting:8080/") {
			got.WantStatus(http.StatusOK)
		}
		if got := mesh.App("fleeting-1").Connections(); got != 3 {
			t.Errorf("6 requests came over %d connections, want 3", got)
		}
	})
	mesh.Run("given up if they take too long to be made", func(*testing.T) {
		mesh.App("far-1").Stall()
		web.Get("http://far:8080/").WantStatus(http.StatusServiceUnavailable).
			WantHeader("x-heddle-response-flags", "UF").WantTook(500*time.Millisecond, 5*time.Second)
	})
	mesh.Run("probed if nothing moves on them, where the policy says so", func(t *testing.T) {
		web.Get("http://classic:8080/").WantStatus(http.StatusOK)
		mesh.Eventually("a probe is due within 60 s", func() bool {
			timers := mesh.KeepaliveTimers("classic-1", 8080)
			return len(timers) == 1 && timers[0] > 30*time.Second && timers[0] <= 60*time.Second
		})
		web.Get("http://modern:8080/").WantStatus(http.StatusOK)
		if timers := mesh.KeepaliveTimers("modern-1", 8080); !slices.Equal(timers, []time.Duration{0}) {
			t.Errorf("without a policy the connections are probed after %v, want one that never is", timers)
		}
	})
}

func TestPodsOfAHeadlessServiceAreCalledOneByOne(t *testing.T) {
	mesh := wire.Start(t, "headless")
	for _, pod := range []string{"store-0", "store-1"} {
		for range 5 {
			mesh.Get("http://" + pod + ":8080/").WantStatus(http.StatusOK).WantFrom(pod)
		}
	}
	mesh.App("store-1").Does(wire.Answer(http.StatusTeapot))
	mesh.Get("http://store-1:8080/").WantStatus(http.StatusTeapot)
	gate := wire.NewGate()
	defer gate.Open()
	mesh.App("store-0").Does(gate.Behind)
	mesh.Get("http://store-0:8080/").WantStatus(http.StatusGatewayTimeout)
}

func TestDefaultsOfTheMeshHoldWhereNoPolicySaysOtherwise(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "mesh-defaults")

	mesh.Run("for every Service", func(*testing.T) {
		catalog := mesh.App("catalog-1")
		catalog.Does(wire.FailFirst(1, http.StatusServiceUnavailable))
		mesh.Get("http://catalog:8080/").WantStatus(http.StatusOK)
		catalog.WantRequests(2)
		catalog.Does(wire.Wait(750 * time.Millisecond))
		mesh.Get("http://catalog:8080/").WantStatus(http.StatusGatewayTimeout)
	})
	mesh.Run("but a Service's own policy wins, key by key", func(*testing.T) {
		reports := mesh.App("reports-1")
		reports.Does(wire.First(1, wire.Answer(http.StatusServiceUnavailable)))
		mesh.Get("http://reports:8080/").WantStatus(http.StatusOK)
		reports.WantRequests(2)
		reports.Does(wire.Wait(750 * time.Millisecond))
		mesh.Get("http://reports:8080/").WantStatus(http.StatusOK)
	})
	mesh.Run("and one that has no idle timeout keeps its streams, however still they are", func(t *testing.T) {
		mesh.App("reports-1").Does(wire.Stream(2, 2500*time.Millisecond))
		got := mesh.Get("http://reports:8080/").WantStatus(http.StatusOK).WantTook(2500*time.Millisecond, 8*time.Second)
		if string(got.Body) != "1\n2\n" {
			t.Errorf("the answer is %q", got.Body)
		}
	})
}
