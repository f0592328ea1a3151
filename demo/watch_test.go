package demo

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

// acked is an answer to what was sent so long ago.
func acked(proxy string, t xds.Type, ago time.Duration) xds.Event {
	return xds.Event{Kind: xds.Acked, Proxy: proxy, Type: t, Resources: 1, Took: ago}
}

func TestAnEditIsInForceWhenItsOwnPushIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(nil)
		edit := mesh.Changes{Policies: []mesh.PolicyStatus{{Accepted: true}}, Outbounds: []mesh.View{{Key: key("catalog")}}}
		health := mesh.Changes{Endpoints: []model.Key{key("inventory")}}
		want := func(what string, acked int, took time.Duration) {
			t.Helper()
			if h := w.hear(); h.acked != acked || h.took != took {
				t.Errorf("%s: in force at %d after %v, want %d after %v", what, h.acked, h.took, acked, took)
			}
		}
		w.follow(time.Now(), edit)
		w.Applied(health) // which was on its way before the edit
		w.Observe(acked("shop/a", xds.Endpoints, 0))
		want("before the control plane has it", 0, 0)

		time.Sleep(10 * time.Millisecond)
		w.Applied(edit)
		w.Observe(acked("shop/a", xds.Endpoints, 20*time.Millisecond))
		want("an answer to what was sent before", 0, 0)
		time.Sleep(20 * time.Millisecond)
		w.Observe(acked("shop/a", xds.Route, 15*time.Millisecond))
		want("the first sidecar", 1, 30*time.Millisecond)

		time.Sleep(20 * time.Millisecond)
		w.Applied(health)
		time.Sleep(50 * time.Millisecond)
		w.Observe(acked("shop/b", xds.Route, 80*time.Millisecond))
		want("a slow one, to whom it was sent in time", 2, 100*time.Millisecond)
		time.Sleep(100 * time.Millisecond)
		w.Observe(acked("shop/a", xds.Endpoints, 10*time.Millisecond))
		w.Observe(acked("shop/c", xds.Endpoints, 10*time.Millisecond))
		want("what was sent for another reason", 2, 100*time.Millisecond)

		w.follow(time.Now(), edit)
		w.Applied(edit)
		time.Sleep(drain + 10*time.Millisecond)
		w.Observe(acked("shop/a", xds.Cluster, 5*time.Millisecond))
		want("the removal of what nobody uses any more", 0, 0)
	})
}
