package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// NewIntermediate makes a CA of td below another one, with new keys. sign is given a CSR (PKCS #10, DER) that asks for a
// CA with the trust domain's own ID, and gives the CA's certificate first, then those towards the anchors, without an
// anchor; and the anchors. What it gives is held to all that [LoadAuthority] asks for.
func NewIntermediate(
	td spiffeid.TrustDomain, now time.Time, sign func(csr []byte) (chain, anchors []*x509.Certificate, err error),
) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for a CA of %s: %w", td, err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{td.ID().URL()}}, key)
	if err != nil {
		return nil, fmt.Errorf("ask for a CA of %s: %w", td, err)
	}
	chain, anchors, err := sign(csr)
	if err != nil {
		return nil, fmt.Errorf("ask for a CA of %s: %w", td, err)
	}
	m := Material{Certificates: CertificatesPEM(chain), Anchors: CertificatesPEM(anchors)}
	if m.Key, err = keyPEM(key); err != nil {
		return nil, fmt.Errorf("write the key of a CA of %s: %w", td, err)
	}
	if m.JWTKey, err = NewJWTKey(); err != nil {
		return nil, err
	}
	return LoadAuthority(td, m, now)
}

// Due is when the next CA should take its place: at half of its life, so that a rotation has the other half.
func (a *Authority) Due() time.Time {
	begin := a.chain[0].NotBefore
	return begin.Add(a.Expires().Sub(begin) / 2)
}
