package wire_test

import (
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestPodsAndServicesMayHaveIPv6(t *testing.T) {
	mesh := wire.Start(t, "dual-stack")
	web := mesh.Caller("web")

	mesh.Run("a Service with IPv6 alone", func(t *testing.T) {
		got := web.Get("http://six:8080/items").WantStatus(http.StatusOK).WantFrom("catalog-2")
		wantCaller(t, got.Facts().Header.Get("X-Forwarded-Client-Cert")) // so its sidecar was met, by mutual TLS
	})
	mesh.Run("a Service with both, and a pod of each", func(t *testing.T) {
		got := wire.Pods(web.Times(40, "http://catalog:8080/"))
		if got["catalog-1"] == 0 || got["catalog-2"] == 0 || len(got) != 2 {
			t.Errorf("answers came from %v, want both pods", got)
		}
	})
	mesh.Run("a caller without a sidecar", func(*testing.T) {
		mesh.Outsider().Get("http://catalog-2:" + mesh.App("catalog-2").Port() + "/").WantStatus(http.StatusOK).WantFrom("catalog-2")
	})
}
