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
	sick := mesh.App("catalog-1")
	// pods are those that 20 requests of each caller were answered by.
	pods := func() map[string]int {
		return wire.Pods(append(mesh.Caller("web").Times(20, items), mesh.Caller("mobile").Times(20, items)...))
	}
	mesh.Eventually("both pods are used", func() bool { return len(pods()) == 2 })

	sick.Does(wire.On("/healthz", wire.Answer(http.StatusInternalServerError)))
	mesh.Eventually("the unhealthy pod is avoided by all", func() bool { return pods()["catalog-2"] == 40 })

	if all := wire.Pods(mesh.Caller("web").Times(20, "http://tolerant:8080/")); len(all) != 2 {
		t.Errorf("with too few healthy pods %v are used, want all", all)
	}

	sick.Does(wire.Echo)
	mesh.Eventually("the pod that is healthy again is used", func() bool { return len(pods()) == 2 })

	sick.Refuse()
	sick.Hangup()
	mesh.Eventually("a pod whose application is down is avoided by all", func() bool { return pods()["catalog-2"] == 40 })
	mesh.App("catalog-2").Refuse()
	mesh.App("catalog-2").Hangup()
	mesh.Get(items).WantStatus(http.StatusServiceUnavailable)

	sick.Accept()
	mesh.Eventually("the first that returns is used", func() bool { return pods()["catalog-1"] == 40 })
}

func TestTCPHealthChecksFindAnApplicationThatTakesNoConnections(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "health-check")
	sick := mesh.App("cache-1")
	for _, a := range mesh.Apps("cache") {
		a.Speaks(wire.Banner(a.Pod))
	}
	// greeted counts by whom ten connections were greeted, "" for those that were closed.
	greeted := func() map[string]int {
		n := map[string]int{}
		for range 10 {
			c := mesh.Caller("web").Dial("cache:7000")
			line, err := c.Line()
			if err != nil {
				line = ""
			}
			n[line]++
			_ = c.Close()
		}
		return n
	}
	mesh.Eventually("both pods are used", func() bool { n := greeted(); return n["cache-1"] > 0 && n["cache-2"] > 0 })

	sick.Refuse()
	mesh.Eventually("the pod that takes no connections is avoided", func() bool { return greeted()["cache-2"] == 10 })

	sick.Accept()
	mesh.Eventually("it is used again", func() bool { return greeted()["cache-1"] > 0 })
}
