package hold

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/test/signers"
)

// longestPause between two attempts, see [identity.Renewer].
const longestPause = 30 * time.Second

// renewing runs only the renewal of a holder, on a clock that jumps. The function that it gives ends it.
func renewing(t *testing.T, s *signers.Signer, change func(*Options)) (h *Holder, stop func()) {
	t.Helper()
	o := options(t, s, t.TempDir())
	if change != nil {
		change(&o)
	}
	h = must(New(o))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.renew(ctx) }()
	return h, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestACertificateIsRenewedAtHalfOfItsLifeGiveOrTakeATenth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = time.Hour
		s := newSigner(t, "web", lifetime)
		_, stop := renewing(t, s, nil)
		defer stop()
		time.Sleep(20 * lifetime)
		asked := s.Asked()
		if len(asked) < 33 {
			t.Fatalf("asked %d times in 20 lifetimes", len(asked))
		}
		for i := range len(asked) - 1 {
			// Certificates say whole seconds.
			if gap := asked[i+1].Sub(asked[i]); gap < lifetime*4/10-time.Second || gap > lifetime*6/10+time.Second {
				t.Errorf("renewal %d came after %v", i, gap)
			}
		}
	})
}

func TestEveryCertificateHasANewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", time.Hour)
		h, stop := renewing(t, s, nil)
		defer stop()
		keys := map[string]bool{}
		for i := range 3 {
			time.Sleep(time.Duration(i) * 40 * time.Minute)
			synctest.Wait()
			c, _, _ := h.docs.current()
			keys[string(must(c.key.pkcs8()))] = true
		}
		if len(keys) != 3 {
			t.Errorf("3 certificates have %d keys", len(keys))
		}
	})
}

func TestWithoutTheSignerTheAgentAsksOnAndHealsWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = time.Hour
		s := newSigner(t, "web", lifetime)
		h, stop := renewing(t, s, nil)
		defer stop()
		synctest.Wait()
		c, _, _ := h.docs.current()
		s.SetAway(errAway)
		time.Sleep(3 * lifetime)
		synctest.Wait()
		asked := s.Asked()[1:]
		for i := range len(asked) - 1 {
			gap, left := asked[i+1].Sub(asked[i]), c.Expires().Sub(asked[i])
			if gap > longestPause {
				t.Errorf("with %v left, a pause of %v", left, gap)
			}
		}
		s.SetAway(nil)
		time.Sleep(longestPause)
		synctest.Wait()
		if now, _, _ := h.docs.current(); left(now) <= 0 {
			t.Error("the signer is back, and there is no valid certificate")
		}
	})
}

func TestPausesAfterFailuresGrowAndVary(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for failures, most := range map[int]time.Duration{1: pollPace, 2: 2 * pollPace, 5: 16 * pollPace, 9: maxPause, 1 << 40: maxPause} {
		for range 100 {
			if got := pause(failures, random.Float64()); got < most/2 || got > most {
				t.Errorf("after %d failures %v, want %v to %v", failures, got, most/2, most)
			}
		}
	}
}

func TestATokenFileIsReadAtEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", time.Hour)
		s.SetAway(errAway)
		h, stop := renewing(t, s, nil)
		defer stop()
		synctest.Wait()
		writeFile(t, h.o.TokenFile, []byte("second"))
		time.Sleep(time.Second)
		synctest.Wait()
		if err := os.Remove(h.o.TokenFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		asked := len(s.Asked())
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.Asked()) != asked {
			t.Error("without a file the signer is asked all the same")
		}
		writeFile(t, h.o.TokenFile, []byte("third"))
		s.SetAway(nil)
		time.Sleep(longestPause)
		synctest.Wait()
		if c, _, _ := h.docs.current(); c == nil {
			t.Error("with a new token there is no certificate")
		}
		if got := slices.Compact(s.Shown()); !slices.Equal(got, []string{secretToken, "second", "third"}) {
			t.Errorf("shown %q", got)
		}
	})
}

func TestAJoinTokenIsAskedForWheneverNoCertificateIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = time.Hour
		s := newSigner(t, "web", lifetime)
		s.SetAway(errAway)
		var joins atomic.Int32
		h, stop := renewing(t, s, func(o *Options) {
			o.TokenFile, o.Join = "", func(context.Context) (Token, error) {
				n := joins.Add(1)
				if n == 2 {
					return Token{}, errors.New("there is no pod")
				}
				return NewToken(fmt.Sprint("join-", n)), nil
			}
		})
		defer stop()
		time.Sleep(time.Second)
		s.SetAway(nil)
		time.Sleep(2 * lifetime)
		synctest.Wait()
		first, shown := int(joins.Load()), s.Shown()
		if first < 3 || slices.Contains(shown, "join-2") || shown[first-2] != fmt.Sprint("join-", first) {
			t.Errorf("%d join tokens were asked for, and shown %q", first, shown)
		}
		for _, token := range shown[first-1:] {
			if token != "" {
				t.Errorf("with a valid certificate it showed %q", token)
			}
		}
		s.SetAway(errAway)
		time.Sleep(lifetime)
		synctest.Wait()
		if later := s.Shown()[len(shown):]; int(joins.Load()) == first || later[0] != "" {
			t.Errorf("the certificate has expired, and shown is %q", later)
		}
		s.SetAway(nil)
		time.Sleep(longestPause)
		synctest.Wait()
		if c, _, _ := h.docs.current(); left(c) <= 0 {
			t.Error("the signer is back, and there is no valid certificate")
		}
	})
}

func TestAnAnswerThatComesLateTakesNoNewerBundleAway(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	h := must(New(options(t, s, t.TempDir())))
	must(h.attempt(t.Context()))
	k := must(newKey())
	late := must(s.SVID(t.Context(), "", must(k.request())))
	s.Trust(must(identity.Merge(s.Trusted(), must(identity.NewRoot(domain(), time.Now(), 0)).Bundle())))
	if took := must(h.docs.takeBundle(s.Trusted())); !took {
		t.Fatal("the new bundle is not taken")
	}
	c := &Certificate{id: s.ID, chain: late.Chain, key: k}
	if err := h.docs.takeCertificate(c, late.Bundle); err != nil {
		t.Fatal(err)
	}
	if held, b, _ := h.docs.current(); held != c || identity.Fingerprint(b) != identity.Fingerprint(s.Trusted()) {
		t.Error("the certificate is not taken, or the bundle is of before")
	}
	if took := must(h.docs.takeBundle(late.Bundle)); took {
		t.Error("an older bundle is taken")
	}
}

func TestAWithdrawnCAIsRenewedFromAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", 24*time.Hour)
		h, stop := renewing(t, s, nil)
		defer stop()
		synctest.Wait()
		s.Sign(must(identity.NewRoot(domain(), time.Now(), 0)))
		s.Trust(s.CA().Bundle())
		if took, err := h.docs.takeBundle(s.Trusted()); !took || err != nil {
			t.Fatal(took, err)
		}
		synctest.Wait()
		if c, b, _ := h.docs.current(); !c.trustedBy(b) || len(s.Asked()) != 2 {
			t.Errorf("asked %d times; the certificate is by a CA that nobody trusts", len(s.Asked()))
		}
	})
}

func TestWhatDoesNotFitTogetherIsNotTaken(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	other := newSigner(t, "web", time.Hour)
	issue := func(by *signers.Signer, k key) client.SVID { return must(by.SVID(t.Context(), "", must(k.request()))) }
	k := must(newKey())
	good := issue(s, k)
	for name, c := range map[string]struct {
		id   string
		got  client.SVID
		key  key
		want string
	}{
		"another key": {"web", good, must(newKey()), "another key"},
		"another ID":  {"api", good, k, "it is for spiffe://cluster.local/ns/shop/sa/web"},
		"another CA":  {"web", client.SVID{Chain: issue(other, k).Chain, Bundle: good.Bundle}, k, "signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, s, t.TempDir())
			o.ID = idOf(c.id)
			h := must(New(o))
			err := h.docs.takeCertificate(&Certificate{id: o.ID, chain: c.got.Chain, key: c.key}, c.got.Bundle)
			wantError(t, err, c.want)
			if held, _, _ := h.docs.current(); held != nil {
				t.Error("it was taken all the same")
			}
		})
	}
}
