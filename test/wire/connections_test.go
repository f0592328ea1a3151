package wire_test

import (
	"net/http"
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
}
