package keep

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
)

// Whoever may write in a namespace can make its copy immutable, or use its quota up.
func TestANamespaceWhoseCopyFailsHoldsTheRotationForAWhileOnly(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, func(o *Options) {
		o.Namespaces = func() []string { return []string{"bank", "shop"} }
		o.Log = zerolog.New(&log)
	}, func(t *testing.T, m *memory, k *Keeper) {
		m.with(func() { m.refuses["bank"] = errors.New("field is immutable when `immutable` is set") })
		m.leading <- true
		synctest.Wait()
		do(t, k.Ready())
		first := k.Progress().Signer
		do(t, k.Rotate(t.Context(), nil))
		time.Sleep(copyPatience / 2)
		at := k.Progress()
		if at.Phase != identity.Introducing || len(at.Waits) != 1 || !strings.Contains(at.Waits[0], "bank") {
			t.Errorf("it did not give the copy a while: %+v", at)
		}
		if !slices.Equal(at.Uncopied, []string{"bank"}) {
			t.Errorf("uncopied are %q", at.Uncopied)
		}
		m.with(func() { clear(m.copies) })
		time.Sleep(recopy)
		m.with(func() {
			if m.copies["bank"] < 5 || m.copies["shop"] > 3 {
				t.Errorf("tries in a minute: %v; want only the failing one again and again", m.copies)
			}
		})
		time.Sleep(4 * copyPatience)
		if at := k.Progress(); at.Phase != identity.Steady || at.Signer == first {
			t.Errorf("one namespace still holds the rotation: %+v", at)
		}

		m.with(func() { clear(m.refuses) })
		time.Sleep(time.Minute)
		synctest.Wait()
		if at := k.Progress(); len(at.Uncopied) > 0 {
			t.Errorf("uncopied are %q", at.Uncopied)
		}
		if n := strings.Count(log.String(), "could not copy"); n != 1 {
			t.Errorf("the log says it %d times:\n%s", n, &log)
		}
	})
}
