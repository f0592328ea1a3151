// Package idle waits for longer than Envoy's own idle timeout, of five minutes for a stream. It needs no processor
// meanwhile: make test begins with it, and runs the others beside it.
package idle

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

// still is how long nothing moves. Envoy looks at the time of a stream now and then: a little more than its five minutes.
const still = 5*time.Minute + 5*time.Second

func TestWithoutPolicyWhatIsIdleForLongerThanEnvoysFiveMinutesStaysOpen(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	mesh.AppAt("store-1", 8080).Does(wire.Stream(2, still))
	mesh.AppAt("store-1", 7000).Speaks(wire.EchoBytes)
	web := mesh.Caller("web").Patient(still + time.Minute)
	overHTTP1 := web.Begin(1, http.MethodGet, "http://catalog:8080/")
	overHTTP2 := web.HTTP2().Begin(1, http.MethodGet, "http://catalog:8080/")
	raw := web.Dial("cache:7000")
	raw.WantEcho("before")

	for protocol, p := range map[string]*wire.Pending{"HTTP/1.1": overHTTP1, "HTTP/2": overHTTP2} {
		got := p.All()[0].WantStatus(http.StatusOK).WantTook(still, still+time.Minute)
		if string(got.Body) != "1\n2\n" {
			t.Errorf("over %s the answer is %q", protocol, got.Body)
		}
	}
	raw.WantEcho("after")
}
