package wire_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestMirrorsGetCopiesAndCallersNoticeNothing(t *testing.T) {
	mesh := wire.Start(t, "mirror")
	web, mirror := mesh.Caller("web"), mesh.App("catalog-next-1")
	const items = "http://catalog:8080/items"

	mesh.Run("every request", func(t *testing.T) {
		web.Do(http.MethodPut, items+"?n=1", wire.Body("shoes")).WantStatus(http.StatusOK).WantFrom("catalog-1")
		mesh.Eventually("the copy arrives", func() bool { return len(mirror.Requests()) == 1 })
		if got := mirror.Requests()[0]; got.Method != http.MethodPut || got.Path != "/items?n=1" {
			t.Errorf("the copy is %+v", got)
		}
	})
	mesh.Run("whose answers are forgotten", func(*testing.T) {
		mirror.Does(wire.Answer(http.StatusInternalServerError))
		web.Get(items).WantStatus(http.StatusOK).WantFrom("catalog-1")
	})
	mesh.Run("which may hang", func(t *testing.T) {
		gate := wire.NewGate()
		mirror.Does(gate.Behind)
		web.Get(items).WantStatus(http.StatusOK).WantTook(0, 5*time.Second)
		gate.Waited(t, 1)
		gate.Open()
	})
	mesh.Run("which may be down", func(*testing.T) {
		mirror.Refuse()
		mirror.Hangup()
		web.Get(items).WantStatus(http.StatusOK)
	})
	mesh.Run("a share of requests", func(t *testing.T) {
		const n = 400
		web.Times(n, "http://catalog:8080/other")
		// Copies arrive about in order, so after the one of this last request, which has to be copied, only a few are
		// still on their way.
		web.Get(items)
		copies := 0
		mesh.Eventually("the last copy arrives", func() bool {
			got := mirror.Requests()
			copies = len(got) - 1
			return len(got) > 0 && got[len(got)-1].Path == "/items"
		})
		wire.WantShare(t, "copies", copies, n, 0.25)
	})
}
