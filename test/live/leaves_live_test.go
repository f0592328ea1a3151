package live

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/wait"
)

// startWithLeaves gives a world whose certificates live so long.
func startWithLeaves(t testing.TB, leaf time.Duration) *world {
	t.Helper()
	return startWith(t, func(w *world) *plane {
		w.Leaf = leaf
		return w.serve()
	})
}

func TestAMeshWhoseLeavesHaveExpiredHealsByItselfWhenTheControlPlaneReturns(t *testing.T) {
	t.Parallel() // it mostly waits
	w := startWithLeaves(t, 12*time.Second)
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.answers(catalog)

	w.plane.stop()
	begin := time.Now()
	eventually(t, "requests fail", func() bool {
		a := w.ask(catalog)
		if !a.ok() && a.status != http.StatusServiceUnavailable {
			t.Errorf("%v; want 200 or 503", a)
		}
		return !a.ok()
	})
	t.Logf("requests fail %v after the control plane went", time.Since(begin).Round(time.Millisecond))

	begin = time.Now()
	w.plane = w.serve()
	w.answers(catalog)
	t.Logf("all is well %v after it came back", time.Since(begin).Round(time.Millisecond))
	load := w.load(catalog)
	load.next(2 * rate)
	load.finish()
}

// What a pod was made with is of no use then: it is the ConfigMap of now from which a container that is restarted begins.
func TestASidecarRestartedAfterARootRotationBeginsWithTheBundleOfNow(t *testing.T) {
	t.Parallel() // it mostly waits
	w := startWith(t, func(w *world) *plane {
		w.Leaf, w.Skew = 10*time.Second, time.Second
		return w.serve()
	})
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	w.answers(catalog)
	before := w.mountedBundle()

	begin, keeper := time.Now(), w.plane.signer.Keeper()
	old := keeper.Progress().Signer
	if err := keeper.Rotate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// Each of its three phases may take as long as a leaf lives, and then up to three rounds of the keeper, of 5 s.
	phase := w.Leaf + w.Skew + 15*time.Second
	wait.Until(t, phase+patience, "another root signs", func() bool { return keeper.Progress().Signer != old })
	wait.Until(t, 2*phase+patience, "the rotation has ended", func() bool {
		p := keeper.Progress()
		return p.Phase == identity.Steady && len(p.Authority) == 1
	})
	eventually(t, "the namespace has another bundle", func() bool { return !bytes.Equal(w.mountedBundle(), before) })
	t.Logf("the rotation took %v", time.Since(begin).Round(time.Millisecond))
	if _, err := w.certificate(one.name, w.parse(before)); err == nil {
		t.Error("an agent that begins with the bundle of before trusts the signer")
	}

	one.stop()
	w.run(one.name, one.address) // the same pod
	w.answers(catalog)
}
