package attest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

func shop() identity.Workload {
	return identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"}
}

func TestAJoinTokenIsGoodOnceForItsPod(t *testing.T) {
	j := NewJoinTokens(nil, newClock().Now)
	token := j.Hand(shop())
	if w, err := j.Attest(t.Context(), token); err != nil || w != shop() {
		t.Fatalf("got %+v, %v", w, err)
	}
	_, err := j.Attest(t.Context(), token)
	wantReason(t, err, JoinRefused)
}

func TestAJoinTokenExpiresAfterTenMinutes(t *testing.T) {
	c := newClock()
	j := NewJoinTokens(nil, c.Now)
	early, late := j.Hand(shop()), j.Hand(shop())
	c.pass(10*time.Minute - time.Second)
	if _, err := j.Attest(t.Context(), early); err != nil {
		t.Error(err)
	}
	c.pass(time.Second)
	_, err := j.Attest(t.Context(), late)
	wantReason(t, err, JoinRefused)
}

func TestNothingButTheWholeJoinTokenIsAccepted(t *testing.T) {
	j := NewJoinTokens(nil, newClock().Now)
	token, other := j.Hand(shop()), j.Hand(shop())
	parts, others := strings.Split(token, "."), strings.Split(other, ".")
	for name, forged := range map[string]string{
		"no secret":        parts[0] + "." + parts[1] + ".",
		"no name":          parts[0] + ".." + parts[2],
		"another's secret": parts[0] + "." + parts[1] + "." + others[2],
		"cut short":        token[:len(token)-1],
		"longer":           token + "A",
		"padded":           token + "=",
		"another prefix":   "x" + token,
		"a JWT":            "e30.e30.e30",
		"the prefix":       joinPrefix,
	} {
		_, err := j.Attest(t.Context(), forged)
		t.Run(name, func(t *testing.T) { wantReason(t, err, JoinRefused) })
	}
	_, err := j.Attest(t.Context(), "")
	wantReason(t, err, NoToken)
	if _, err := j.Attest(t.Context(), token); err != nil {
		t.Errorf("the real one, after all these: %v", err)
	}
}

func TestASecretIsKeptAsItsHashOnly(t *testing.T) {
	j := NewJoinTokens(nil, newClock().Now)
	token := j.Hand(shop())
	if secret := strings.Split(token, ".")[2]; len(secret) != 43 { // 256 bits as base64
		t.Errorf("the secret has %d characters", len(secret))
	}
	// The type says it: join has a hash and no secret. What is held in memory has the name of the token alone.
	for key := range j.joins.items {
		if key != strings.Split(token, ".")[1] {
			t.Errorf("kept as %q", key)
		}
	}
}

func TestACertificateOfOursIsRenewedForItsPod(t *testing.T) {
	leaf := leaves(t)
	j := NewJoinTokens(nil, nil)
	if w, err := j.Renew(t.Context(), leaf("web-1")); err != nil || w != shop() {
		t.Errorf("got %+v, %v", w, err)
	}
	_, err := j.Renew(t.Context(), leaf("")) // of the control plane itself
	wantReason(t, err, RenewalRefused)
}

func TestAPodThatTheManifestsDoNotHaveAnyMoreRenewsNothing(t *testing.T) {
	leaf := leaves(t)("web-1")
	for want, c := range map[Reason]struct {
		pod Pod
		ok  bool
		err error
	}{
		"":              {pod: Pod{Account: "web"}, ok: true},
		RenewalRefused:  {},
		AccountMismatch: {pod: Pod{Account: "api"}, ok: true},
		PodReplaced:     {pod: Pod{Account: "web", UID: "another"}, ok: true},
		PodUnknown:      {err: errors.New("the control plane ends")},
	} {
		j := NewJoinTokens(func(_ context.Context, namespace, name string) (Pod, bool, error) {
			if namespace != "shop" || name != "web-1" {
				t.Errorf("asked for %s/%s", namespace, name)
			}
			return c.pod, c.ok, c.err
		}, nil)
		if w, err := j.Renew(t.Context(), leaf); ReasonOf(err) != want || (err == nil) != (w == shop()) {
			t.Errorf("%+v: got %+v, %v; want reason %q", c, w, err, want)
		}
	}
}

// leaves makes certificates of shop/web with a pod in them.
func leaves(t *testing.T) func(pod string) *x509.Certificate {
	t.Helper()
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewRoot(td, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.ID(td, "shop", "web")
	if err != nil {
		t.Fatal(err)
	}
	return func(pod string) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := ca.Issue(t.Context(), identity.Request{ID: id, Key: key.Public(), Pod: pod})
		if err != nil {
			t.Fatal(err)
		}
		return chain[0]
	}
}
