package wire_test

import (
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestHealthChecksByAPodsOwnSidecarReachEveryCaller(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "health-check")
	const items = "http://catalog:8080/items"
	both := func() bool {
		pods := wire.Pods(mesh.Caller("web").Times(20, items))
		return pods["catalog-1"] > 0 && pods["catalog-2"] > 0
	}
	mesh.Eventually("both pods are used", both)

	mesh.App("catalog-1").Does(wire.On("/healthz", wire.Answer(http.StatusInternalServerError)))
	mesh.Eventually("the unhealthy pod is avoided", func() bool {
		return wire.Pods(mesh.Caller("web").Times(20, items))["catalog-2"] == 20
	})

	mesh.App("catalog-1").Does(wire.Echo)
	mesh.Eventually("the pod that is healthy again is used", both)
}
