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
		want := func(what string, acked int, took time.Duration) {
			t.Helper()
			if h := w.hear(); h.acked != acked || h.took != took {
				t.Errorf("%s: in force at %d after %v, want %d after %v", what, h.acked, h.took, acked, took)
			}
		}
		after := func(ms int, e xds.Event) {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			w.Observe(e)
		}
		w.follow(time.Now(), mesh.Changes{Outbounds: []mesh.View{{Key: key("catalog")}}})
		after(10, acked("shop/a", xds.Route, 20*time.Millisecond))
		want("an answer to what was sent before", 0, 0)
		after(20, acked("shop/a", xds.Route, 15*time.Millisecond))
		want("the first sidecar", 1, 30*time.Millisecond)
		after(70, acked("shop/b", xds.Route, 90*time.Millisecond))
		want("a slow one", 2, 100*time.Millisecond)
		after(100, acked("shop/a", xds.Endpoints, 10*time.Millisecond))
		want("somebody's health", 2, 100*time.Millisecond)
		after(100, acked("shop/a", xds.Route, 10*time.Millisecond))
		want("another push of the same kind", 2, 100*time.Millisecond)
		after(800, acked("shop/a", xds.Cluster, 10*time.Millisecond))
		want("the removal of what nobody uses any more", 2, 100*time.Millisecond)

		w.follow(time.Now(), mesh.Changes{Endpoints: []model.Key{key("catalog")}})
		after(5, acked("shop/a", xds.Endpoints, 4*time.Millisecond))
		want("an edit of endpoints", 1, 5*time.Millisecond)
		after(500, acked("shop/a", xds.Endpoints, 4*time.Millisecond))
		want("somebody's health after it", 1, 5*time.Millisecond)
	})
}
