package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
)

func TestTheNameOfABundleSaysWhatItTrustsAndNotInWhichOrder(t *testing.T) {
	a, b, c := root(t), root(t), root(t)
	merge := func(all ...*Authority) *spiffebundle.Bundle {
		bundle := spiffebundle.New(domain(t))
		for _, x := range all {
			bundle = must[*spiffebundle.Bundle](t)(Merge(bundle, x.Bundle()))
		}
		return bundle
	}
	want := Fingerprint(merge(a, b, c))
	if len(want) != 64 {
		t.Errorf("it is %q", want)
	}
	for _, order := range [][]*Authority{{a, c, b}, {b, a, c}, {c, b, a}, {a, a, b, c, b}} {
		if got := Fingerprint(merge(order...)); got != want {
			t.Errorf("in another order: %s, want %s", got, want)
		}
	}
	hinted := merge(a, b, c)
	hinted.SetSequenceNumber(7)
	hinted.SetRefreshHint(time.Hour)
	if Fingerprint(hinted) != want {
		t.Error("a sequence number changes it")
	}

	names := map[string]string{}
	withoutTokens := a.Bundle()
	withoutTokens.SetJWTAuthorities(nil)
	renamed := a.Bundle()
	renamed.SetJWTAuthorities(map[string]crypto.PublicKey{"another": a.jwtKey().Public()})
	rekeyed := a.Bundle()
	rekeyed.SetJWTAuthorities(map[string]crypto.PublicKey{a.KeyID(): b.jwtKey().Public()})
	elsewhere := spiffebundle.FromX509Authorities(must2(t, otherDomain), a.anchors)
	elsewhere.SetJWTAuthorities(a.Bundle().JWTAuthorities())
	for name, bundle := range map[string]*spiffebundle.Bundle{
		"a": merge(a), "b": merge(b), "a b": merge(a, b), "a b c": merge(a, b, c), "none": spiffebundle.New(domain(t)),
		"no tokens": withoutTokens, "renamed": renamed, "rekeyed": rekeyed, "elsewhere": elsewhere,
	} {
		f := Fingerprint(bundle)
		if other, twice := names[f]; twice {
			t.Errorf("bundles %q and %q have one name", name, other)
		}
		names[f] = name
	}
}

func TestMergingChangesNoBundleThatIsMerged(t *testing.T) {
	a, b := root(t).Bundle(), root(t).Bundle()
	before := Fingerprint(a)
	both := must[*spiffebundle.Bundle](t)(Merge(a, b))
	if Fingerprint(a) != before || Fingerprint(both) == before {
		t.Error("the first one changed")
	}
	if len(both.X509Authorities()) != 2 || len(both.JWTAuthorities()) != 2 {
		t.Errorf("%d and %d authorities", len(both.X509Authorities()), len(both.JWTAuthorities()))
	}
}

func TestBundlesOfTwoTrustDomainsAreNeverOne(t *testing.T) {
	other := must[*Authority](t)(NewRoot(must2(t, otherDomain), time.Now(), 0))
	_, err := Merge(root(t).Bundle(), other.Bundle())
	wantCode(t, err, CodeTrustDomain)
	_, err = ParseBundle(domain(t), must[[]byte](t)(MarshalBundle(other.Bundle())))
	wantCode(t, err, CodeBundle)
	contains(t, err, "it must be of spiffe://cluster.local")
}

func TestABundleIsTheSameAfterItsWayAsJWKS(t *testing.T) {
	bundle := must[*spiffebundle.Bundle](t)(Merge(root(t).Bundle(), root(t).Bundle(), root(t).Bundle(), root(t).Bundle()))
	data := must[[]byte](t)(MarshalBundle(bundle))
	again := must[*spiffebundle.Bundle](t)(ParseBundle(domain(t), data))
	if Fingerprint(again) != Fingerprint(bundle) || len(again.X509Authorities()) != 4 || len(again.JWTAuthorities()) != 4 {
		t.Error("it is another one")
	}
	for range 20 {
		if !bytes.Equal(must[[]byte](t)(MarshalBundle(bundle)), data) {
			t.Fatal("the same bundle gave other bytes")
		}
	}
	if s := string(data); strings.Contains(s, `"d":`) || !strings.Contains(s, `"use":"x509-svid"`) || !strings.Contains(s, `"use":"jwt-svid"`) {
		t.Errorf("%.400s", s)
	}
}

func TestABundleThatTrustsNobodyOrTheWrongIsNotRead(t *testing.T) {
	ca := root(t)
	leaf := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), request(t)))
	mayNotSign, _ := newGiven(t, nil)
	noSigner := must[[]*x509.Certificate](t)(parseCertificates(mayNotSign.Anchors))[0]
	noSigner.KeyUsage = x509.KeyUsageCRLSign
	for name, data := range map[string][]byte{
		"nothing":   nil,
		"no JSON":   []byte("x"),
		"no keys":   []byte(`{}`),
		"empty":     []byte(`{"keys":[]}`),
		"oversize":  []byte(`{"keys":[]` + strings.Repeat(" ", MaxBundle) + `}`),
		"no CA":     must[[]byte](t)(MarshalBundle(spiffebundle.FromX509Authorities(domain(t), leaf))),
		"JWT alone": must[[]byte](t)(MarshalBundle(spiffebundle.FromJWTAuthorities(domain(t), ca.Bundle().JWTAuthorities()))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseBundle(domain(t), data)
			wantCode(t, err, CodeBundle)
		})
	}
	contains(t, checkAnchor(noSigner, domain(t)), "no keyCertSign")
}

func TestEnvoyGetsTheAnchorsAsPEMAlwaysInOneOrder(t *testing.T) {
	a, b := root(t).Bundle(), root(t).Bundle()
	one := AnchorsPEM(must[*spiffebundle.Bundle](t)(Merge(a, b)))
	other := AnchorsPEM(must[*spiffebundle.Bundle](t)(Merge(b, a)))
	if !bytes.Equal(one, other) {
		t.Error("the order of the bundle shows")
	}
	read := must[[]*x509.Certificate](t)(parseCertificates(one))
	if len(read) != 2 || !slices.ContainsFunc(read, a.X509Authorities()[0].Equal) || !slices.ContainsFunc(read, b.X509Authorities()[0].Equal) {
		t.Errorf("%d certificates", len(read))
	}
}

func TestTheIDOfAKeyForTokensIsMadeFromTheKey(t *testing.T) {
	a, b := root(t), root(t)
	if a.KeyID() == b.KeyID() || len(a.KeyID()) != 32 {
		t.Errorf("%q and %q", a.KeyID(), b.KeyID())
	}
	key, ok := a.Bundle().FindJWTAuthority(a.KeyID())
	if ec, is := key.(*ecdsa.PublicKey); !ok || !is || !ec.Equal(a.jwtKey().Public()) {
		t.Error("the bundle has another key")
	}
}
