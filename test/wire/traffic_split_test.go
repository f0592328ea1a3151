package wire_test

import (
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestTrafficIsSplitByWeight(t *testing.T) {
	mesh := wire.Start(t, "traffic-split")
	web := mesh.Caller("web")

	mesh.Run("between versions of a Service", func(t *testing.T) {
		const n = 600
		pods := wire.Pods(web.Times(n, "http://catalog:8080/items"))
		wire.WantShare(t, "version 2", pods["catalog-v2"], n, 0.10)
		if pods["catalog-v1"]+pods["catalog-v2"] != n {
			t.Errorf("answers came from %v", pods)
		}
	})
	mesh.Run("but not for testers", func(*testing.T) {
		for _, got := range web.Times(20, "http://catalog:8080/items", wire.Header("x-canary", "1")) {
			got.WantFrom("catalog-v2")
		}
	})
	mesh.Run("between Services", func(t *testing.T) {
		const n = 400
		pods := wire.Pods(web.Times(n, "http://recommend:8080/"))
		wire.WantShare(t, "recommend-next", pods["recommend-next-1"], n, 0.25)
		wire.WantShare(t, "recommend", pods["recommend-1"], n, 0.75)
	})
	mesh.Run("and TCP connections too", func(t *testing.T) {
		const n = 200
		mesh.AppAt("recommend-1", 7000).Speaks(wire.Banner("cache"))
		mesh.AppAt("recommend-next-1", 7000).Speaks(wire.Banner("cache-next"))
		next := 0
		for range n {
			c := web.Dial("cache:7000")
			if line, err := c.Line(); err != nil {
				t.Fatal(err)
			} else if line == "cache-next" {
				next++
			}
			c.Close()
		}
		wire.WantShare(t, "connections to cache-next", next, n, 0.5)
	})
}
