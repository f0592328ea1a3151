package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

func TestABundleInTheFileIsTakenWhenItChangesAndAnOlderOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, "web", time.Hour)
		h := must(New(options(t, s, t.TempDir())))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.watchFile(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		holds := func(what string, want *spiffebundle.Bundle) {
			t.Helper()
			time.Sleep(2 * fileInterval)
			synctest.Wait()
			if _, b, _ := h.docs.current(); b == nil || identity.Fingerprint(b) != identity.Fingerprint(want) {
				t.Errorf("%s: it is not held", what)
			}
		}
		first := s.Trusted()
		holds("at first", first)
		s.Trust(must(identity.NewRoot(domain(), time.Now(), 0)).Bundle())
		second := s.Trusted()
		writeFile(t, h.o.BundleFile, must(identity.MarshalBundle(second)))
		holds("changed", second)
		writeFile(t, h.o.BundleFile, []byte(`{"keys": []}`))
		holds("without authorities", second)
		wantError(t, errors.New(h.health.file.why()), "no X.509 authority")
		if err := os.Remove(h.o.BundleFile); err != nil {
			t.Fatal(err)
		}
		holds("gone", second)
		writeFile(t, h.o.BundleFile, must(identity.MarshalBundle(first)))
		if b, err := h.docs.Bundle(); err != nil || identity.Fingerprint(b) != identity.Fingerprint(first) {
			t.Errorf("a connection is verified by the bundle of before: %v", err)
		}
	})
}

// What a rotation while the agent was cut off leaves is a file that the signer's certificate fits, and it alone.
func TestOnceTheSignerHasSentABundleTheFileServesToDialTheSignerOnly(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	h := must(New(options(t, s, t.TempDir())))
	must(h.docs.readFile())
	must(h.attempt(t.Context()))
	first := s.Trusted()
	forged := must(identity.NewRoot(domain(), time.Now(), 0))
	_, _, changed := h.docs.current()
	writeFile(t, h.o.BundleFile, must(identity.MarshalBundle(forged.Bundle())))
	if took := must(h.docs.readFile()); took {
		t.Error("the file replaces what the signer has sent")
	}
	select {
	case <-changed:
		t.Error("somebody is told of the file's bundle")
	default:
	}
	for what, get := range map[string]func() (*spiffebundle.Bundle, error){
		"Envoy and applications are given": func() (*spiffebundle.Bundle, error) { _, b, _ := h.docs.current(); return b, nil },
		"the control plane is verified by": h.docs.held,
	} {
		if b := must(get()); identity.Fingerprint(b) != identity.Fingerprint(first) {
			t.Errorf("%s what the file says", what)
		}
	}
	both := must(identity.Merge(first, forged.Bundle()))
	if b := must(h.docs.Bundle()); identity.Fingerprint(b) != identity.Fingerprint(both) {
		t.Error("the signer is not verified by what it sent and by the file")
	}
	s.Trust(must(identity.NewRoot(domain(), time.Now(), 0)).Bundle())
	if took := must(h.docs.takeBundle(s.Trusted())); !took {
		t.Fatal("the signer's next bundle is not taken")
	}
	if b := must(h.docs.Bundle()); identity.Fingerprint(b) != identity.Fingerprint(s.Trusted()) {
		t.Error("what the file said before outlives the next bundle")
	}
}

func TestAnAgentThatWasCutOffForAWholeRotationComesBackByTheFile(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	h := must(New(options(t, s, t.TempDir())))
	must(h.docs.readFile())
	must(h.attempt(t.Context()))
	s.Sign(must(identity.NewRoot(domain(), time.Now(), 0)))
	s.Trust(s.CA().Bundle())
	k := must(newKey())
	signers := must(s.CA().Issue(t.Context(), identity.Request{ID: idOf("signer"), Key: &k.private().PublicKey}))
	if _, err := identity.VerifyLeaf(signers, must(h.docs.Bundle()), time.Now()); err == nil {
		t.Fatal("the signer is trusted before the file says so")
	}
	writeFile(t, h.o.BundleFile, must(identity.MarshalBundle(s.Trusted())))
	if _, err := identity.VerifyLeaf(signers, must(h.docs.Bundle()), time.Now()); err != nil {
		t.Errorf("the file says so: %v", err)
	}
	must(h.attempt(t.Context()))
	if c, b, _ := h.docs.current(); !c.trustedBy(b) || identity.Fingerprint(b) != identity.Fingerprint(s.Trusted()) {
		t.Error("the signer's new bundle is not taken")
	}
}

func TestTheFirstBundleOfTheSignerCountsWhateverNumberTheFilesHas(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	h := must(New(options(t, s, t.TempDir())))
	ahead := must(identity.NewRoot(domain(), time.Now(), 0)).Bundle()
	ahead.SetSequenceNumber(1 << 60)
	writeFile(t, h.o.BundleFile, must(identity.MarshalBundle(ahead)))
	must(h.docs.readFile())
	must(h.attempt(t.Context()))
	if _, b, _ := h.docs.current(); identity.Fingerprint(b) != identity.Fingerprint(s.Trusted()) {
		t.Error("the signer's bundle is not taken")
	}
}

func TestNeitherKeyNorTokenCanBePrinted(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	o := options(t, s, t.TempDir())
	h := must(New(o))
	must(h.attempt(t.Context()))
	o.TokenFile, o.Join = "", func(context.Context) (Token, error) { return NewToken(secretToken), nil }
	c, _, _ := h.docs.current()
	var text strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c.key, &c.key, c, *c, c.TLS(), *c.TLS(), h.docs, o, &o, struct{ o Options }{o}, struct{ Key key }{c.key}, must(o.Join(t.Context()))} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
	}
	noSecrets(t, h, "what is printed", text.String())
	if _, err := json.Marshal(c.key); err == nil {
		t.Error("a key is written as JSON")
	}
}
