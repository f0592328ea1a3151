package wire_test

import (
	"io"
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
			got.WantStatus(http.StatusServiceUnavailable).WantHeader("x-heddle-response-flags", "UO").WantTook(0, 10*time.Second)
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
	mesh.Run("TCP connections to each endpoint, which wait for their turn", func(t *testing.T) {
		ledger := mesh.App("ledger-1")
		ledger.Speaks(wire.EchoBytes)
		first := mesh.Caller("web").Dial("ledger:7100")
		first.WantEcho("one")
		second := mesh.Caller("web").Dial("ledger:7100")
		if _, err := io.WriteString(second, "two\n"); err != nil {
			t.Fatal(err)
		}
		// One may wait. That the third is refused tells that the second waits by now.
		if line, err := mesh.Caller("web").Dial("ledger:7100").Line(); err == nil {
			t.Errorf("a third connection was let through and said %q", line)
		}
		first.WantEcho("three")
		if n := ledger.Connections(); n != 1 {
			t.Errorf("%d connections reached the application at once, want 1", n)
		}
		first.Close()
		if line, err := second.Line(); err != nil || line != "two" {
			t.Errorf("the second connection heard %q (%v)", line, err)
		}
	})
	mesh.Run("HTTP requests that wait for a connection", func(t *testing.T) {
		gate := wire.NewGate()
		archive := mesh.App("archive-1")
		archive.Does(gate.Behind)
		first := mesh.Caller("web").Begin(1, http.MethodGet, "http://archive:8080/")
		gate.Waited(t, 1) // it has the one connection

		others := mesh.Caller("web").Begin(3, http.MethodGet, "http://archive:8080/")
		for _, got := range others.Next(2) {
			got.WantStatus(http.StatusServiceUnavailable).WantHeader("x-heddle-response-flags", "UO")
		}
		gate.Open()
		for _, got := range append(first.All(), others.All()...) {
			got.WantStatus(http.StatusOK)
		}
		archive.WantRequests(2)
		if n := archive.Connections(); n != 1 {
			t.Errorf("%d connections were made to the application, want 1", n)
		}
	})
	mesh.Run("retries", func(t *testing.T) {
		wantRetries(t, mesh.Caller("web"), "http://orders:8080/", mesh.Apps("orders"), retryBounds{sent: 20, least: 2, most: 2})
	})
}
