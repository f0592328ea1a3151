package wire_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestEditsTakeEffectWithoutFailingARequest(t *testing.T) {
	mesh := wire.Start(t, "traffic-split")
	web := mesh.Caller("web")
	stop := load(t, web, "http://catalog:8080/items")
	share := func() int { return wire.Pods(web.Times(30, "http://catalog:8080/items"))["catalog-v2"] }

	mesh.Edit("version: v1}, weight:", "weight: 90", "weight: 0")
	mesh.Eventually("all goes to version 2", func() bool { return share() == 30 })

	// What is wrong changes nothing.
	mesh.Edit("version: v1}, weight:", "weight: 0", "wait: 90")
	mesh.Edit("version: v2}, weight:", "weight: 10", "weight: 0")
	mesh.Eventually("the problem is reported", mesh.HasProblem)
	if got := share(); got != 30 {
		t.Errorf("with a broken policy version 2 got %d of 30 requests, want all as before", got)
	}

	mesh.Edit("version: v1}, wait:", "wait: 90", "weight: 90")
	mesh.Eventually("all goes to version 1", func() bool { return share() == 0 })

	if requests, failed := stop(); failed > 0 || requests < 100 {
		t.Errorf("%d of %d requests failed meanwhile", failed, requests)
	}
}

// load sends requests, one after the other, until it is stopped, and then says how many were sent and how many failed.
func load(t *testing.T, from *wire.Caller, url string) (stop func() (requests, failed int)) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var n, bad int
	wg.Go(func() {
		for ctx.Err() == nil {
			got, err := from.Try(t.Context(), http.MethodGet, url)
			n++
			if err != nil || got.Status != http.StatusOK {
				bad++
			}
		}
	})
	t.Cleanup(cancel)
	return func() (int, int) {
		cancel()
		wg.Wait()
		return n, bad
	}
}
