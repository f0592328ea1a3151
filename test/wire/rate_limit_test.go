package wire_test

import (
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestRateLimitsHoldForCallersInsideAndOutsideTheMesh(t *testing.T) {
	mesh := wire.Start(t, "rate-limit")
	web, outsider := mesh.Caller("web"), mesh.Outsider()

	for _, got := range web.Times(3, "http://catalog:8080/search") {
		got.WantStatus(http.StatusOK)
	}
	for _, got := range outsider.Times(2, "http://catalog-1:8080/search") {
		got.WantStatus(http.StatusOK)
	}
	for range 3 {
		web.Get("http://catalog:8080/search/shoes").WantStatus(http.StatusTooManyRequests)
		outsider.Get("http://catalog-1:8080/search").WantStatus(http.StatusTooManyRequests)
	}
	mesh.App("catalog-1").WantRequests(5)

	for _, got := range web.Times(20, "http://catalog:8080/items") {
		got.WantStatus(http.StatusOK)
	}
}
