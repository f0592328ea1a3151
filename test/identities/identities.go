// Package identities makes certificates for tests, and gives them to Envoys as the agent beside a sidecar does: by SDS
// on a unix socket, under the same names for everybody.
//
//	ca := identities.New(t, "cluster.local")
//	agent := ca.Serve(t, ca.ID("shop", "web"))
//	envoy.Options{Bootstrap: bootstrap.Options{SDS: agent.Socket, ...}}
package identities

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// Authority is the CA of a trust domain.
type Authority struct {
	domain      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes a CA.
func New(t testing.TB, domain string) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "CA of " + domain},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: domain}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	return &Authority{domain, sign(t, template, template, &key.PublicKey, key), key}
}

// ID is the SPIFFE ID of a service account.
func (a *Authority) ID(namespace, account string) string {
	return "spiffe://" + a.domain + "/ns/" + namespace + "/sa/" + account
}

// Certificate makes a certificate of that ID and its key.
func (a *Authority) Certificate(t testing.TB, id string) tls.Certificate {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	leaf := sign(t, &x509.Certificate{
		SerialNumber: serial(t), URIs: []*url.URL{u},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.certificate, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Bundle is what trusts the CA.
func (a *Authority) Bundle() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Client is a caller that proves an ID, or none if that is empty, and takes any server that the CA vouches for. It would
// resume a session if it were let.
func (a *Authority) Client(t testing.TB, id string, alpn ...string) *tls.Config {
	t.Helper()
	config := &tls.Config{
		NextProtos: alpn, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		ServerName:         "mesh", // the key of the cache
		InsecureSkipVerify: true,   // there is no host name in these certificates: VerifyConnection checks the chain
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: a.Bundle(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			return err
		},
	}
	if id != "" {
		config.Certificates = []tls.Certificate{a.Certificate(t, id)}
	}
	return config
}

// Server wants callers to prove an ID that the CA vouches for. It would resume sessions.
func (a *Authority) Server(t testing.TB, id string) *tls.Config {
	t.Helper()
	return &tls.Config{
		Certificates: []tls.Certificate{a.Certificate(t, id)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: a.Bundle(),
	}
}

func (a *Authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
