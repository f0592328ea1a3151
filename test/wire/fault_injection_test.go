package wire_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestFaultsAreInjectedWhereAskedFor(t *testing.T) {
	mesh := wire.Start(t, "fault-injection")
	web, catalog := mesh.Caller("web"), mesh.App("catalog-1")
	chaos := wire.Header("x-chaos", "yes")

	mesh.Run("a delay", func(*testing.T) {
		web.Get("http://catalog:8080/slow", chaos).WantStatus(http.StatusOK).WantTook(2*time.Second, 15*time.Second)
		web.Get("http://catalog:8080/slow").WantStatus(http.StatusOK).WantTook(0, 2*time.Second)
	})
	mesh.Run("an abort", func(*testing.T) {
		web.Get("http://catalog:8080/broken", chaos).WantStatus(http.StatusTeapot).WantHeader("x-heddle-response-flags", "FI")
		catalog.WantRequests(0)
		web.Get("http://catalog:8080/broken").WantStatus(http.StatusOK)
	})
	mesh.Run("for a share of requests", func(t *testing.T) {
		const n = 400
		got := wire.Statuses(web.Times(n, "http://catalog:8080/flaky"))
		wire.WantShare(t, "aborted", got[http.StatusInternalServerError], n, 0.2)
		catalog.WantRequests(got[http.StatusOK])
	})
	mesh.Run("and a client cannot ask for more", func(*testing.T) {
		web.Get("http://catalog:8080/other", chaos, wire.Header("x-envoy-fault-abort-request", "503"),
			wire.Header("x-envoy-fault-delay-request", "20000")).WantStatus(http.StatusOK).WantTook(0, 15*time.Second)
	})
}
