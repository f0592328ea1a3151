package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
)

// foreign is an issuer that is none of ours, made with the standard library alone. It signs leaves itself, and no tokens.
type foreign struct {
	*authorities
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newForeign(t testing.TB) *foreign {
	t.Helper()
	f := &foreign{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another issuer"}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, f.key.Public(), f.key))
	f.root = must[*x509.Certificate](t)(x509.ParseCertificate(der))
	f.authorities = &authorities{bundle: spiffebundle.FromX509Authorities(domain(t), []*x509.Certificate{f.root}), changed: make(chan struct{})}
	return f
}

func (f *foreign) Issuer() (identity.Issuer, error) { return f, nil }

func (f *foreign) Tokens() (identity.JWTSigner, error) { return nil, errors.New("not in these tests") }

// Issue implements identity.Issuer.
func (f *foreign) Issue(_ context.Context, r identity.Request) ([]*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{r.ID.URL()}, BasicConstraintsValid: true,
	}
	if r.Pod != "" {
		value, err := asn1.MarshalWithParams(r.Pod+"/"+r.PodUID, "utf8")
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 25, 740135628}, Value: value}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.root, r.Key, f.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return []*x509.Certificate{leaf}, err
}

func TestTheServiceWorksWithAnIssuerThatIsNoneOfOurs(t *testing.T) {
	f := newForeign(t)
	s, tokens := forFiles(t, func(o *Options) { o.Authorities = f })
	s.ca = f.authorities
	key := newKey(t)
	join := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	first, err := s.client(nil).SVID(t.Context(), join, csrOf(t, key))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Chain[0].CheckSignatureFrom(f.root); err != nil || first.Chain[0].URIs[0].String() != idOf(t, "shop", "web").String() {
		t.Errorf("the certificate is of %v: %v", first.Chain[0].URIs, err)
	}
	mine := s.client(shown(key, first.Chain))
	if second, err := mine.SVID(t.Context(), "", csrOf(t, newKey(t))); err != nil || second.Chain[0].Equal(first.Chain[0]) {
		t.Errorf("renewed it is the same, or %v", err)
	}
	bundle, err := mine.Bundle(t.Context(), "", client.Uses{Bundle: identity.Fingerprint(first.Bundle)})
	if err != nil || bundle == nil || !bundle.HasX509Authority(f.root) {
		t.Errorf("the bundle is %v, %v", bundle, err)
	}
	if got := s.server.connected.Sidecars(); len(got) != 1 || got[0].Authority != identity.CertificateName(f.root) {
		t.Errorf("what a rotation goes by is %+v, want one sidecar with a certificate of %.16s", got, identity.CertificateName(f.root))
	}
}
