package hold

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/test/signers"
)

func TestACertificateIsNotTakenBeforeWhatGoesWithItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", time.Hour)
		var mu sync.Mutex
		away, tokens := errAway, 0
		h, stop := renewing(t, s, func(o *Options) {
			o.With = func(_ context.Context, token string) error {
				mu.Lock()
				defer mu.Unlock()
				if token == secretToken {
					tokens++
				}
				return away
			}
		})
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if c, _, _ := h.Current(); c != nil || len(s.Asked()) < 2 {
			t.Errorf("a certificate is held, after %d attempts", len(s.Asked()))
		}
		wantError(t, errors.New(h.Faults()[0]), errAway.Error())
		mu.Lock()
		away = nil
		mu.Unlock()
		time.Sleep(longestPause)
		synctest.Wait()
		if c, _, _ := h.Current(); c == nil || len(h.Faults()) > 0 {
			t.Errorf("no certificate is held: %q", h.Faults())
		}
		if tokens != len(s.Asked()) {
			t.Errorf("%d certificates were issued, and %d asked for with the same token", len(s.Asked()), tokens)
		}
	})
}

// use is what a test says is in use.
type use struct {
	mu                  sync.Mutex
	bundle, certificate string
	changed             chan struct{}
}

func (u *use) Bundle() string           { u.mu.Lock(); defer u.mu.Unlock(); return u.bundle }
func (u *use) Certificate() string      { u.mu.Lock(); defer u.mu.Unlock(); return u.certificate }
func (u *use) Changed() <-chan struct{} { u.mu.Lock(); defer u.mu.Unlock(); return u.changed }

func (u *use) set(bundle, certificate string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bundle, u.certificate = bundle, certificate
	close(u.changed)
	u.changed = make(chan struct{})
}

func TestWhatIsInUseIsReportedAtOnceAndNothingThatIsOnlyHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", time.Hour)
		o, in := options(t, s, t.TempDir()), &use{changed: make(chan struct{})}
		o.InUse = in
		h := must(New(o))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c, b, _ := h.Current()
		if c == nil || s.Taken() != (client.Uses{}) {
			t.Fatalf("%+v is reported, and nothing is in use", s.Taken())
		}
		wantReport := func(want client.Uses) {
			in.set(want.Bundle, want.Leaf)
			time.Sleep(2 * pollPace)
			synctest.Wait()
			if s.Taken() != want {
				t.Errorf("%+v is reported a moment after %+v came in use", s.Taken(), want)
			}
		}
		bundle, first := identity.Fingerprint(b), identity.CertificateName(c.Chain()[0])
		wantReport(client.Uses{Bundle: bundle})
		wantReport(client.Uses{Bundle: bundle, Leaf: first})
		h.Renew()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if c, _, _ = h.Current(); c.Version() == first || s.Taken().Leaf != first {
			t.Errorf("%+v is reported while %s is held and %s in use", s.Taken(), c.Version(), first)
		}
		wantReport(client.Uses{Bundle: bundle, Leaf: c.Version()})
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// closing is a signer that is reached by connections.
type closing struct {
	*signers.Signer
	closed int
}

func (c *closing) Close() { c.closed++ }

func TestAHolderThatHasEndedLeavesNoConnectionToTheSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &closing{Signer: newSigner(t, "web", time.Hour)}
		o := options(t, s.Signer, t.TempDir())
		o.Connect = func(Trust) Signer { return s }
		h := must(New(o))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if s.closed != 0 {
			t.Error("connections are left while it runs")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s.closed != 1 {
			t.Errorf("its connections are left %d times", s.closed)
		}
	})
}
