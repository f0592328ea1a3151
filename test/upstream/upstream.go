// Package upstream is a CA of somebody else, in memory, which signs CAs of ours: an identity/keep.Upstream for tests. It is
// made with the standard library alone, so that nothing of ours vouches for itself.
package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"
)

// CA signs. It is safe for concurrent use.
type CA struct {
	t    testing.TB
	life time.Duration

	mu     sync.Mutex
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	fault  error
	signed int
}

// New makes one that signs CAs for so long.
func New(t testing.TB, life time.Duration) *CA {
	t.Helper()
	c := &CA{t: t, life: life}
	c.Replace()
	return c
}

// Replace gives it another root.
func (c *CA) Replace() {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := template("upstream root", 20*365*24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.root, c.key = root, key
}

// Fail has it sign nothing while err is not nil.
func (c *CA) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
}

// Root is what verifiers trust now, and how many CAs were signed.
func (c *CA) Root() (root *x509.Certificate, signed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.root, c.signed
}

// Sign implements identity/keep.Upstream.
func (c *CA) Sign(_ context.Context, csr []byte) (chain, anchors []*x509.Certificate, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil {
		return nil, nil, c.fault
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, nil, err
	}
	template := template("a CA below it", c.life)
	template.URIs, template.MaxPathLenZero = request.URIs, true
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, request.PublicKey, c.key)
	if err != nil {
		return nil, nil, err
	}
	below, err := x509.ParseCertificate(der)
	c.signed++
	return []*x509.Certificate{below}, []*x509.Certificate{c.root}, err
}

func template(name string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
}
