package wire_test

import (
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestRateLimitsHoldForCallersInsideAndOutsideTheMesh(t *testing.T) {
	mesh := wire.Start(t, "rate-limit")
	web, outsider := mesh.Caller("web"), mesh.Outsider()

	mesh.Run("one bucket for all callers, protocols and alternatives", func(*testing.T) {
		web.Get("http://catalog:8080/search").WantStatus(http.StatusOK)
		web.Get("http://catalog:8080/find").WantStatus(http.StatusOK)
		web.HTTP2().Get("http://catalog:8080/search/shoes").WantStatus(http.StatusOK)
		outsider.Get("http://catalog-1:8080/search").WantStatus(http.StatusOK)
		outsider.HTTP2().Get("http://catalog-1:8080/find").WantStatus(http.StatusOK)
		for _, path := range []string{"/search", "/find", "/./search", "/x/../find", "/%73earch"} {
			web.Get("http://catalog:8080" + path).WantStatus(http.StatusTooManyRequests)
			web.HTTP2().Get("http://catalog:8080" + path).WantStatus(http.StatusTooManyRequests)
			outsider.Get("http://catalog-1:8080" + path).WantStatus(http.StatusTooManyRequests)
		}
		mesh.App("catalog-1").WantRequests(5)
	})
	mesh.Run("nor does another spelling of the path get around it", func(*testing.T) {
		for _, path := range []string{"//search", "///find", "//reports/..//search"} {
			web.Get("http://catalog:8080" + path).WantStatus(http.StatusTooManyRequests)
			web.HTTP2().Get("http://catalog:8080" + path).WantStatus(http.StatusTooManyRequests)
			outsider.Get("http://catalog-1:8080" + path).WantStatus(http.StatusTooManyRequests)
		}
		for _, path := range []string{"/a%2Fsearch", "/a%2f..%2Fsearch", "/%5Csearch", "/search%5c"} {
			web.Get("http://catalog:8080" + path).WantStatus(http.StatusBadRequest)
			outsider.HTTP2().Get("http://catalog-1:8080" + path).WantStatus(http.StatusBadRequest)
		}
		mesh.App("catalog-1").WantRequests(0)
		web.Get("http://catalog:8080/items?next=/a%2Fb//c").WantStatus(http.StatusOK)
	})
	mesh.Run("a burst after a pause", func(*testing.T) {
		for _, got := range web.Times(3, "http://catalog:8080/reports") {
			got.WantStatus(http.StatusOK)
		}
		web.Get("http://catalog:8080/reports").WantStatus(http.StatusTooManyRequests)
	})
	mesh.Run("none elsewhere", func(*testing.T) {
		for _, got := range web.Times(20, "http://catalog:8080/items") {
			got.WantStatus(http.StatusOK)
		}
	})
}
