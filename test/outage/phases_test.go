package outage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/traffic"
)

// short is the life of leaves in tests that wait for their end.
const short = 10 * time.Second

func TestARotationThatIsAbortedBeforeItSignsLeavesNothing(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	load := m.web.load(t, traffic.Some)
	old := m.signer()
	m.rotate(nil)
	m.reach(identity.Introducing)
	m.abort()
	m.reach(identity.Steady)
	m.wantOnly(old)
	load.Finish()
}

func TestARotationThatIsAbortedWhileItSignsGoesBackToTheOldRoot(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	load := m.web.load(t, traffic.Some)
	old := m.signer()
	m.rotate(nil)
	m.reach(identity.Signing)
	if m.signer() == old {
		t.Fatal("the old root signs")
	}
	m.abort()
	eventually(t, "the old root signs again", func() bool { return m.signer() == old })
	m.reach(identity.Steady)
	m.wantOnly(old)
	load.Finish()
}

func TestARotationEndsThoughTheControlPlaneDiesInEachPhase(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: 2 * short}) // of which a restart takes seconds on a busy machine
	load := m.web.load(t, traffic.Some)
	old := m.signer()
	m.rotate(nil)
	for _, phase := range []identity.Phase{identity.Introducing, identity.Signing, identity.Retiring} {
		m.reach(phase)
		m.restart()
		if got := m.keeper().Progress().Phase; got != phase {
			t.Fatalf("after the restart the rotation is %s, want %s", got, phase)
		}
	}
	m.rotated(old)
	m.wantOnly(m.signer())
	load.Finish()
}

func TestASidecarThatIsGoneHoldsUpARotationForTheLifeOfItsLeafAndNoLonger(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	m.web.stop()
	gone := time.Now()
	old := m.signer()
	m.rotate(nil)
	m.reach(identity.Signing)
	if took := time.Since(gone); took < short/2 {
		t.Errorf("it went on after %v, while the leaf of the one that is gone may live", took)
	}
	m.rotated(old)
	m.shop.wantSignedBy(t, m.keeper(), m.signer())
}

func TestTheBuiltInRootGivesWayToAnIntermediateOfAnOfflineRoot(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	load := m.web.load(t, traffic.Some)
	given, root := intermediate(t)
	old := m.signer()
	m.rotate(given)
	m.rotated(old)
	if m.signer() != given.Name() {
		t.Errorf("%s signs", m.signer())
	}
	for _, p := range []*pod{m.web, m.shop} {
		chain := p.wantSignedBy(t, m.keeper(), given.Name())
		if len(chain) != 2 || chain[1].CheckSignatureFrom(root) != nil {
			t.Errorf("%s shows %d certificates, want its own and the intermediate", p.name, len(chain))
		}
	}
	load.Finish()
}

// TestASidecarThatStartsFromABundleOfThePastWaitsForTheCurrentOne is about what to do with a file that was left behind.
func TestASidecarThatStartsFromABundleOfThePastWaitsForTheCurrentOne(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	file := filepath.Join(m.dir, "bundle.json")
	var past []byte
	eventually(t, "there is a bundle", func() (ok bool) {
		var err error
		past, err = os.ReadFile(file)
		return err == nil
	})
	m.web.stop()
	old := m.signer()
	m.rotate(nil)
	m.rotated(old)

	var current []byte
	eventually(t, "the file has the new root", func() bool {
		var err error
		current, err = os.ReadFile(file)
		return err == nil && string(current) != string(past)
	})
	replace(t, file, past)
	m.open(m.web)
	if err := m.web.readyWithin(t, 3*time.Second); err == nil {
		t.Error("it serves, though it cannot know whom to trust")
	}
	replace(t, file, current)
	m.web.wait(t)
	m.web.wantSignedBy(t, m.keeper(), m.signer())
	if err := traffic.Get(traffic.Client(traffic.HTTP1), "http://"+m.web.service(portHTTP)+"/"); err != nil {
		t.Error(err)
	}
}

func (m *town) abort() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := m.keeper().Abort(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// wantOnly wants one authority to be trusted, and pods to have certificates of it.
func (m *town) wantOnly(name string) {
	m.t.Helper()
	p := m.keeper().Progress()
	if p.Signer != name || len(p.Authority) != 1 || p.Authority[0] != name {
		m.t.Errorf("%s signs, and trusted are %q; want %s alone", p.Signer, p.Authority, name)
	}
	for _, one := range []*pod{m.web, m.shop} {
		one.wantSignedBy(m.t, m.keeper(), name)
	}
}

// replace puts a file in the place of another in one step.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".test", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".test", path); err != nil {
		t.Fatal(err)
	}
}

// intermediate makes a CA below a root whose key nobody has any more.
func intermediate(t *testing.T) (*identity.Authority, *x509.Certificate) {
	t.Helper()
	make := func(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
			URIs: []*url.URL{{Scheme: "spiffe", Host: domain().Name()}},
		}
		if parent == nil {
			parent, by = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	root, rootKey := make("offline root", nil, nil)
	below, key := make("intermediate", root, rootKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	tokens, err := identity.NewJWTKey()
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.LoadAuthority(domain(), identity.Material{
		Certificates: identity.CertificatesPEM([]*x509.Certificate{below}), Key: text,
		Anchors: identity.CertificatesPEM([]*x509.Certificate{root}), JWTKey: tokens,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a, root
}
