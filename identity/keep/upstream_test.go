package keep

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/transcript"
	"github.com/heddle-mesh/heddle/test/upstream"
)

func TestACAOfAnUpstreamIsRenewedInTimeAndFollowsItsRoot(t *testing.T) {
	const life = 4 * time.Hour
	var up *upstream.CA
	var log transcript.Buffer
	inBubble(t, func(o *Options) {
		o.Log = zerolog.New(&log)
		up = upstream.New(t, life)
		up.Fail(errors.New("the upstream is away"))
		o.Upstream = up
	}, func(t *testing.T, m *memory, k *Keeper) {
		m.leading <- true
		time.Sleep(time.Minute)
		if CodeOf(k.Ready()) != Unavailable || m.kept.ca != nil {
			t.Fatalf("without the upstream there is a CA, or %v", k.Ready())
		}
		up.Fail(nil)
		time.Sleep(time.Minute)
		do(t, k.Ready())
		first := k.Progress().Signer
		roots := func() []*x509.Certificate {
			bundle, _, err := k.Bundle()
			do(t, err)
			return bundle.X509Authorities()
		}
		old, _ := up.Root()
		if got := roots(); len(got) != 1 || !got[0].Equal(old) {
			t.Fatalf("%d roots are trusted, want the upstream's alone", len(got))
		}

		time.Sleep(life/2 - 5*time.Minute)
		if at := k.Progress(); at.Signer != first || at.Phase != identity.Steady {
			t.Errorf("before it is due: %+v", at)
		}
		up.Replace()
		up.Fail(errors.New("the upstream is away"))
		time.Sleep(15 * time.Minute)
		if at := k.Progress(); at.Signer != first || at.Phase != identity.Steady || k.Ready() != nil {
			t.Errorf("due, while the upstream is away: %+v, %v", at, k.Ready())
		}
		up.Fail(nil)
		both := false
		for range 5 * 60 {
			time.Sleep(time.Second)
			both = both || len(k.Progress().Authority) == 2 && len(roots()) == 2
		}
		if !both {
			t.Error("the upstream's old root and its new one were never trusted together")
		}
		root, signed := up.Root()
		if at := k.Progress(); at.Phase != identity.Steady || at.Signer == first || signed != 2 || !slices.EqualFunc(roots(), []*x509.Certificate{root}, (*x509.Certificate).Equal) {
			t.Errorf("in the end it stands at %+v, after %d CAs that were signed", at, signed)
		}
		if n := strings.Count(log.String(), "cannot renew the CA"); n != 1 {
			t.Errorf("that it cannot be renewed is said %d times", n)
		}
	})
}

func TestARootOfOurOwnMovesToAnUpstreamWhenItIsOrderedTo(t *testing.T) {
	var kept stored
	inBubble(t, nil, func(t *testing.T, m *memory, k *Keeper) {
		m.leading <- true
		synctest.Wait()
		do(t, k.Ready())
		m.with(func() { kept = m.kept })
	})
	inBubble(t, func(o *Options) { o.Upstream = upstream.New(t, time.Hour) }, func(t *testing.T, m *memory, k *Keeper) {
		m.with(func() { m.kept = kept })
		m.leading <- true
		time.Sleep(time.Hour)
		do(t, k.Ready())
		if k.Progress().Phase != identity.Steady {
			t.Errorf("it moved by itself: %+v", k.Progress())
		}
		do(t, k.Rotate(t.Context(), nil))
		time.Sleep(20 * time.Second)
		if got := k.Progress(); got.Phase == identity.Steady || !slices.ContainsFunc(k.Authorities(), (*identity.Authority).Given) {
			t.Errorf("ordered to, it stands at %+v", got)
		}
	})
}
