package wire_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestTimeoutsEndWhatTakesTooLong(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "timeouts")
	catalog := mesh.App("catalog-1")

	mesh.Run("a slow answer is cut off, and the application is told", func(*testing.T) {
		left := make(chan struct{})
		catalog.Does(wire.Abandoned(left))
		mesh.Get("http://catalog:8080/items").WantStatus(http.StatusGatewayTimeout).
			WantHeader("x-heddle-response-flags", "UT").WantTook(500*time.Millisecond, 3*time.Second)
		<-left
	})
	mesh.Run("a client cannot change it", func(*testing.T) {
		catalog.Does(wire.Wait(time.Second))
		mesh.Get("http://catalog:8080/items", wire.Header("x-envoy-upstream-rq-timeout-ms", "20000")).
			WantStatus(http.StatusGatewayTimeout)
	})
	mesh.Run("a route without one may take longer", func(t *testing.T) {
		catalog.Does(wire.Stream(4, 300*time.Millisecond))
		got := mesh.Get("http://catalog:8080/reports/1").WantStatus(http.StatusOK)
		if string(got.Body) != "1\n2\n3\n4\n" {
			t.Errorf("the answer is %q", got.Body)
		}
	})
	mesh.Run("a request that nobody answers is ended as well", func(*testing.T) {
		catalog.Does(wire.Wait(time.Minute))
		mesh.Get("http://catalog:8080/reports/1").WantStatus(http.StatusGatewayTimeout).
			WantHeader("x-heddle-response-flags", "SI").WantTook(time.Second, 5*time.Second)
	})
	mesh.Run("a stream that stands still is ended", func(t *testing.T) {
		catalog.Does(wire.Stream(2, time.Minute))
		start := time.Now()
		if _, err := mesh.Caller("web").Try(t.Context(), http.MethodGet, "http://catalog:8080/reports/1"); err == nil {
			t.Error("the answer ended as if it were complete")
		}
		if took := time.Since(start); took < 990*time.Millisecond || took > 5*time.Second {
			t.Errorf("it was ended after %v, want a second", took)
		}
	})
	mesh.Run("so is a TCP connection, unless something moves on it", func(t *testing.T) {
		mesh.App("cache-1").Speaks(wire.EchoBytes)
		c := mesh.Caller("web").Dial("cache:7000")
		for range 6 {
			c.WantEcho("still there")
			<-time.After(250 * time.Millisecond)
		}
		start := time.Now() // before the last bytes move: a sidecar counts from when it saw them
		c.WantEcho("after 1.5 s")
		if line, err := c.Line(); !errors.Is(err, io.EOF) {
			t.Errorf("heard %q (%v), want the connection closed", line, err)
		}
		if took := time.Since(start); took < 990*time.Millisecond || took > 5*time.Second {
			t.Errorf("it was closed after %v, want a second", took)
		}
	})
	mesh.Run("a WebSocket lives on past the timeout", func(t *testing.T) {
		catalog.Does(wire.WebSocket)
		c := dialWebSocket(t, mesh.Caller("web"), "catalog:8080")
		for range 4 {
			wantMessage(t, c, "still there")
			<-time.After(200 * time.Millisecond)
		}
		wantMessage(t, c, "after 800 ms")
	})
}
