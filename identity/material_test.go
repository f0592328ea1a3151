package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// given is a CA as a company's PKI gives it: an offline root, and below it an intermediate.
type given struct {
	rootKey, key       *ecdsa.PrivateKey
	root, intermediate *x509.Certificate // templates, then certificates
}

// newGiven makes one; change may alter the templates before they are signed.
func newGiven(t testing.TB, change func(*given)) (Material, *given) {
	now := time.Now()
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: must2(t, newSerial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	g := &given{rootKey: newKey(t), key: newKey(t), root: ca("offline root"), intermediate: ca("intermediate")}
	if change != nil {
		change(g)
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, g.root, g.root, g.rootKey.Public(), g.rootKey))
	g.root = must[*x509.Certificate](t)(x509.ParseCertificate(der))
	der = must[[]byte](t)(x509.CreateCertificate(rand.Reader, g.intermediate, g.root, g.key.Public(), g.rootKey))
	g.intermediate = must[*x509.Certificate](t)(x509.ParseCertificate(der))
	return Material{
		Certificates: CertificatesPEM([]*x509.Certificate{g.intermediate}),
		Key:          must[[]byte](t)(keyPEM(g.key)),
		Anchors:      CertificatesPEM([]*x509.Certificate{g.root}),
		JWTKey:       must[[]byte](t)(NewJWTKey()),
	}, g
}

func must2[T any](t testing.TB, f func() (T, error)) T { return must[T](t)(f()) }

func TestACAThatWasStoredIsTheSameWhenItIsLoaded(t *testing.T) {
	intermediate, _ := newGiven(t, nil)
	for name, a := range map[string]*Authority{
		"root":         root(t),
		"intermediate": must[*Authority](t)(LoadAuthority(domain(t), intermediate, time.Now())),
	} {
		m := must[Material](t)(a.Material())
		again := must[*Authority](t)(LoadAuthority(domain(t), m, time.Now()))
		if again.Name() != a.Name() || again.KeyID() != a.KeyID() || Fingerprint(again.Bundle()) != Fingerprint(a.Bundle()) {
			t.Errorf("%s: %s became %s", name, a, again)
		}
		chain := must[[]*x509.Certificate](t)(again.Issue(t.Context(), request(t)))
		must[spiffeid.ID](t)(VerifyLeaf(chain, a.Bundle(), time.Now()))
		second := must[Material](t)(again.Material())
		same := func(a, b Material) bool {
			return bytes.Equal(a.Certificates, b.Certificates) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Anchors, b.Anchors) && bytes.Equal(a.JWTKey, b.JWTKey)
		}
		if !same(m, second) {
			t.Errorf("%s: stored twice, it differs", name)
		}
	}
}

func TestAGivenIntermediateSendsItselfAlongAndNotItsRoot(t *testing.T) {
	m, g := newGiven(t, nil)
	ca := must[*Authority](t)(LoadAuthority(domain(t), m, time.Now()))
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), request(t)))

	if len(chain) != 2 || !chain[1].Equal(g.intermediate) {
		t.Fatalf("%d certificates", len(chain))
	}
	if anchors := ca.Bundle().X509Authorities(); len(anchors) != 1 || !anchors[0].Equal(g.root) {
		t.Errorf("%d anchors", len(anchors))
	}
	if !ca.Expires().Equal(g.intermediate.NotAfter) {
		t.Errorf("it expires at %s", ca.Expires())
	}
	_, err := VerifyLeaf(chain[:1], ca.Bundle(), time.Now())
	wantCode(t, err, CodeChain)
}

func TestAGivenCAThatCannotServeIsRefusedWhenItIsLoaded(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*given)
		say    string
	}{
		"names of others only":  {func(g *given) { g.root.PermittedURIDomains = []string{"elsewhere.example"} }, "not permitted"},
		"our names excluded":    {func(g *given) { g.intermediate.ExcludedURIDomains = []string{"cluster.local"} }, "excluded"},
		"path too long":         {func(g *given) { g.root.MaxPathLenZero = true }, "too many intermediates"},
		"for servers only":      {func(g *given) { g.intermediate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "incompatible key usage"},
		"for mail only":         {func(g *given) { g.root.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }, "incompatible key usage"},
		"no CA":                 {func(g *given) { g.intermediate.IsCA = false }, "is no CA"},
		"may not sign":          {func(g *given) { g.intermediate.KeyUsage = x509.KeyUsageDigitalSignature }, "no keyCertSign"},
		"says nothing of usage": {func(g *given) { g.intermediate.KeyUsage = 0 }, "no keyCertSign"},
		"expired":               {func(g *given) { g.intermediate.NotAfter = now.Add(-time.Minute) }, "is valid from"},
		"not valid yet":         {func(g *given) { g.intermediate.NotBefore = now.Add(time.Minute) }, "is valid from"},
		"expiring":              {func(g *given) { g.intermediate.NotAfter = now.Add(time.Minute - time.Second) }, "less than 1m0s"},
		"anchor expired":        {func(g *given) { g.root.NotAfter = now.Add(-time.Minute) }, "expires at"},
		"of another trust domain": {func(g *given) {
			g.intermediate.URIs = []*url.URL{must[*url.URL](t)(url.Parse("spiffe://elsewhere.example"))}
		}, "it must be of spiffe://cluster.local"},
		"a workload's ID": {func(g *given) { g.intermediate.URIs = []*url.URL{web(t).URL()} }, "without a path"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newGiven(t, c.change)
			_, err := LoadAuthority(domain(t), m, now)
			wantCode(t, err, CodeAuthority)
			contains(t, err, c.say)
		})
	}
	permitted, _ := newGiven(t, func(g *given) {
		g.root.PermittedURIDomains = []string{"cluster.local"}
		g.intermediate.URIs = []*url.URL{domain(t).ID().URL()}
		g.intermediate.MaxPathLenZero = true
	})
	must[*Authority](t)(LoadAuthority(domain(t), permitted, now))
}

func TestDNSNamesThatTheRootExcludesAreNotIssued(t *testing.T) {
	m, _ := newGiven(t, func(g *given) { g.root.PermittedDNSDomains = []string{"example.com"} })
	ca := must[*Authority](t)(LoadAuthority(domain(t), m, time.Now()))
	must[[]*x509.Certificate](t)(ca.Issue(t.Context(), request(t)))
	_, err := ca.Issue(t.Context(), Request{ID: web(t), Key: newKey(t).Public(), DNSNames: []string{"heddle.svc"}})
	wantCode(t, err, CodeChain)
}

func TestMaterialThatDoesNotFitTogetherIsRefused(t *testing.T) {
	m, g := newGiven(t, nil)
	own := must[Material](t)(root(t).Material())
	otherKey := must[[]byte](t)(keyPEM(newKey(t)))
	rsaKey := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))))})
	p384 := must[[]byte](t)(keyPEM(must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))))
	broken := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: []byte("no key")})
	for name, c := range map[string]struct {
		change func(*Material)
		say    string
	}{
		"nothing":                  {func(m *Material) { *m = Material{} }, "there are none"},
		"no key":                   {func(m *Material) { m.Key = nil }, "no PEM block"},
		"another key":              {func(m *Material) { m.Key = otherKey }, "do not belong together"},
		"an RSA key":               {func(m *Material) { m.Key = rsaKey }, "not ECDSA"},
		"a broken key":             {func(m *Material) { m.Key = broken }, "cannot be read"},
		"two keys":                 {func(m *Material) { m.Key = append(bytes.Clone(m.Key), otherKey...) }, "more than one"},
		"a certificate for a key":  {func(m *Material) { m.Key = m.Certificates }, "a PEM block \"CERTIFICATE\""},
		"a key for a certificate":  {func(m *Material) { m.Certificates = m.Key }, "a PEM block \"PRIVATE KEY\""},
		"no anchors":               {func(m *Material) { m.Anchors = nil }, "not self-signed"},
		"other anchors":            {func(m *Material) { m.Anchors = own.Certificates }, "would be refused"},
		"words before":             {func(m *Material) { m.Certificates = append([]byte("hello\n"), m.Certificates...) }, "no PEM block"},
		"words after":              {func(m *Material) { m.Certificates = append(bytes.Clone(m.Certificates), "hello"...) }, "no PEM block"},
		"a block cut short":        {func(m *Material) { m.Certificates = m.Certificates[:len(m.Certificates)/2] }, "cannot be read"},
		"too much":                 {func(m *Material) { m.Anchors = make([]byte, maxMaterial+1) }, "at most"},
		"a long chain":             {func(m *Material) { m.Certificates = bytes.Repeat(m.Certificates, maxChain+1) }, "more than 8"},
		"the wrong order":          {func(m *Material) { m.Certificates = append(bytes.Clone(m.Anchors), m.Certificates...) }, "do not belong together"},
		"a chain of strangers":     {func(m *Material) { m.Certificates = append(bytes.Clone(m.Certificates), own.Certificates...) }, "not signed by the next"},
		"a key for tokens, P-384":  {func(m *Material) { m.JWTKey = p384 }, "key for tokens"},
		"a key for tokens, broken": {func(m *Material) { m.JWTKey = broken }, "key for tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := m
			c.change(&changed)
			_, err := LoadAuthority(domain(t), changed, time.Now())
			wantCode(t, err, CodeAuthority)
			contains(t, err, c.say)
			if err != nil {
				mustNotTell(t, err.Error(), g.key)
			}
		})
	}
}

func TestAKeyAsOpenSSLWritesItIsReadToo(t *testing.T) {
	m, g := newGiven(t, nil)
	m.Key = pem.EncodeToMemory(&pem.Block{Type: pemECKey, Bytes: must[[]byte](t)(x509.MarshalECPrivateKey(g.key))})
	m.JWTKey = nil
	ca := must[*Authority](t)(LoadAuthority(domain(t), m, time.Now()))
	_, err := ca.Mint(t.Context(), web(t), []string{"a"}, 0)
	wantCode(t, err, CodeNoJWT)
	if ca.KeyID() != "" || len(ca.Bundle().JWTAuthorities()) != 0 {
		t.Error("it has a key for tokens")
	}
}

func TestAKeyOnP384SignsLeavesOnP256(t *testing.T) {
	m, _ := newGiven(t, func(g *given) {
		g.key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	})
	ca := must[*Authority](t)(LoadAuthority(domain(t), m, time.Now()))
	must[[]*x509.Certificate](t)(ca.Issue(t.Context(), request(t)))
}

// mustNotTell looks for a private key in text, in the ways in which programs print numbers and bytes.
func mustNotTell(t *testing.T, text string, key *ecdsa.PrivateKey) {
	t.Helper()
	d := must[[]byte](t)(key.Bytes())
	der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	text = strings.ReplaceAll(text, "\n", "") // PEM breaks its lines
	decimal := strings.Trim(fmt.Sprint(d), "[]")
	for _, secret := range []string{
		hex.EncodeToString(d[4:]), strings.ToUpper(hex.EncodeToString(d[4:])), string(d), decimal, strings.ReplaceAll(decimal, " ", ", "),
		new(big.Int).SetBytes(d).String(), base64.StdEncoding.EncodeToString(d)[:32], base64.StdEncoding.EncodeToString(der)[60:100],
	} {
		if strings.Contains(text, secret) {
			t.Errorf("a private key was told in: %.300s", text)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	a := root(t)
	m := must[Material](t)(a.Material())
	type holder struct {
		a Authority // by value and not exported: fmt cannot call its methods
		p *Authority
		M Material
	}
	held := holder{*a, a, m}
	values := map[string]any{"pointer": a, "value": *a, "holder": held, "pointer to holder": &held, "in a list": []any{a, *a}, "material": m, "pointer to material": &m}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			mustNotTell(t, fmt.Sprintf(verb, v), a.key())
			mustNotTell(t, fmt.Sprintf(verb, v), a.jwtKey())
		}
		mustNotTell(t, string(must[[]byte](t)(json.Marshal(v))), a.key())
		if text := fmt.Sprintf("%v", v); strings.Contains(text, "PRIVATE") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if got, want := fmt.Sprintf("%+v", a), fmt.Sprintf("authority %.16s of cluster.local", a.Name()); got != want {
		t.Errorf("it prints as %q, want %q", got, want)
	}
	if diff := cmp.Diff(`"a CA's material"`, string(must[[]byte](t)(json.Marshal(m)))); diff != "" {
		t.Error(diff)
	}
}

func TestTheSearchForKeysFindsThem(t *testing.T) {
	key := newKey(t)
	for name, text := range map[string]string{
		"what fmt prints": fmt.Sprintf("%+v", *key), "PEM": string(must[[]byte](t)(keyPEM(key))), "bytes": fmt.Sprint(must[[]byte](t)(key.Bytes())),
	} {
		found := &testing.T{}
		mustNotTell(found, text, key)
		if !found.Failed() {
			t.Errorf("not in %s", name)
		}
	}
}

// It may be the outgoing one of a rotation, whose successor is sound.
func TestAKeptCAIsLoadedWhenItHasExpiredAndSignsNothing(t *testing.T) {
	begin := time.Now().Add(-2 * time.Hour)
	old := must[*Authority](t)(NewRoot(domain(t), begin, time.Hour))
	m := must[Material](t)(old.Material())
	if _, err := LoadAuthority(domain(t), m, time.Now()); CodeOf(err) != CodeAuthority {
		t.Errorf("as a new one: %v", err)
	}
	for name, now := range map[string]time.Time{
		"sound": begin, "with half a minute left": begin.Add(time.Hour - 30*time.Second), "expired": time.Now(), "by a clock that is late": begin.Add(-time.Hour),
	} {
		if kept, err := LoadKept(domain(t), m, now); err != nil || kept.Name() != old.Name() {
			t.Errorf("%s: %v", name, err)
		}
	}
	kept := must[*Authority](t)(LoadKept(domain(t), m, time.Now()))
	_, err := kept.Issue(t.Context(), request(t))
	wantCode(t, err, CodeIssuerExpiring)
	_, err = kept.Mint(t.Context(), web(t), []string{"x"}, 0)
	wantCode(t, err, CodeIssuerExpiring)
	if err := kept.Check(time.Now()); CodeOf(err) != CodeAuthority {
		t.Errorf("checked as a new one: %v", err)
	}
	excluded, _ := newGiven(t, func(g *given) { g.root.ExcludedURIDomains = []string{domain(t).Name()} })
	if _, err := LoadKept(domain(t), excluded, time.Now()); CodeOf(err) != CodeAuthority {
		t.Errorf("one whose leaves nobody accepts: %v", err)
	}
}
