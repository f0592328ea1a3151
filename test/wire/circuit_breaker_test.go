package wire_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestCircuitBreakersRefuseWhatIsTooMuch(t *testing.T) {
	mesh := wire.Start(t, "circuit-breaker")

	mesh.Run("requests", func(t *testing.T) {
		gate := wire.NewGate()
		catalog := mesh.App("catalog-1")
		// While the first connection is made, requests wait, and only one may: maxPendingRequests.
		mesh.Get("http://catalog:8080/items").WantStatus(http.StatusOK)
		catalog.Does(gate.Behind)
		waiting := mesh.Caller("web").Begin(2, http.MethodGet, "http://catalog:8080/items")
		gate.Waited(t, 2)

		for _, got := range mesh.Caller("web").Times(5, "http://catalog:8080/items") {
			got.WantStatus(http.StatusServiceUnavailable).WantTook(0, time.Second)
		}
		gate.Open()
		for _, got := range waiting.All() {
			got.WantStatus(http.StatusOK)
		}
		mesh.Get("http://catalog:8080/items").WantStatus(http.StatusOK)
		catalog.WantRequests(4)
	})
	mesh.Run("TCP connections", func(t *testing.T) {
		mesh.App("cache-1").Speaks(wire.EchoBytes)
		first := mesh.Caller("web").Dial("cache:7000")
		first.WantEcho("one")

		second := mesh.Caller("web").Dial("cache:7000")
		if line, err := second.Line(); err == nil {
			t.Errorf("a second connection was let through and said %q", line)
		}
		first.WantEcho("two")
		first.Close()
		mesh.Eventually("a connection passes again", func() bool { return mesh.Caller("web").Dial("cache:7000").Echoes("three") })
	})
	mesh.Run("retries", func(t *testing.T) {
		wantRetries(t, mesh.Caller("web"), "http://orders:8080/", mesh.Apps("orders"), retryBounds{sent: 20, least: 2, most: 2})
	})
}
