package hold

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// key is a private key that cannot be printed, neither by a careless log line nor by a panic. It is behind a function
// because fmt does not ask what is in an unexported field how it wants to be printed, and follows some pointers.
type key struct{ private func() *ecdsa.PrivateKey }

// newKey makes a P-256 key, the only kind that Envoy accepts of the elliptic curves.
func newKey() (key, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return key{}, fmt.Errorf("make a private key: %w", err)
	}
	return key{func() *ecdsa.PrivateKey { return k }}, nil
}

// Format prints the same for every verb.
func (key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(private key)") } // fmt ignores it as well

// MarshalText keeps the key out of JSON and YAML.
func (key) MarshalText() ([]byte, error) { return nil, errors.New("a private key is not written down") }

// Public and Sign make it a [crypto.Signer] for TLS.
func (k key) Public() crypto.PublicKey { return k.private().Public() }

// Sign signs a digest.
func (k key) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return k.private().Sign(random, digest, o)
}

// request gives the CSR (PKCS #10, DER). It holds the public key and nothing else: who asks is found out by the signer.
func (k key) request() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return der, nil
}

func (k key) pkcs8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private()) }

func (k key) pem() ([]byte, error) {
	der, err := k.pkcs8()
	if err != nil {
		return nil, fmt.Errorf("write the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Certificate is an X.509 SVID with its key, which cannot be printed.
type Certificate struct {
	id    spiffeid.ID
	chain []*x509.Certificate // the leaf first
	key   key
}

// ID is whose it is.
func (c *Certificate) ID() spiffeid.ID { return c.id }

// Chain has the leaf first.
func (c *Certificate) Chain() []*x509.Certificate { return c.chain }

// PKCS8 is the private key in DER. It must go to nobody but those for whom it is, and nowhere in writing.
func (c *Certificate) PKCS8() ([]byte, error) { return c.key.pkcs8() }

// KeyPEM is the private key in PEM; the same holds for it.
func (c *Certificate) KeyPEM() ([]byte, error) { return c.key.pem() }

// Expires is when the leaf does.
func (c *Certificate) Expires() time.Time { return c.chain[0].NotAfter }

// Version names the certificate: the SHA-256 of the leaf, in hex.
func (c *Certificate) Version() string {
	sum := sha256.Sum256(c.chain[0].Raw)
	return hex.EncodeToString(sum[:])
}

// TLS is the certificate as connections show it.
func (c *Certificate) TLS() *tls.Certificate {
	out := &tls.Certificate{PrivateKey: c.key, Leaf: c.chain[0]}
	for _, cert := range c.chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

// trustedBy says whether peers with this bundle accept the certificate now.
func (c *Certificate) trustedBy(b *spiffebundle.Bundle) bool {
	_, err := identity.VerifyLeaf(c.chain, b, time.Now())
	return err == nil
}
