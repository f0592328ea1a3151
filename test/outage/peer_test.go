package outage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/service"
	"github.com/heddle-mesh/heddle/model"
)

// authority says who is trusted.
type authority interface {
	Bundle() (*spiffebundle.Bundle, <-chan struct{}, error)
}

// certificate makes one of the pod web, as its sidecar has them but for its life.
func (m *town) certificate(t *testing.T, life time.Duration) *tls.Certificate {
	t.Helper()
	pod, err := m.mesh.Load().Plane().Pod(t.Context(), model.Key{Namespace: "shop", Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := m.keeper().Issuer()
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.ID(domain(), "shop", pod.ServiceAccount)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := issuer.Issue(t.Context(), identity.Request{ID: id, Key: key.Public(), Pod: "web", PodUID: pod.UID, Lifetime: life})
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, one := range chain {
		c.Certificate = append(c.Certificate, one.Raw)
	}
	return c
}

// caller is a client of the mesh's TLS that shows a certificate, and takes any of the server's: what it is, the test
// says.
func caller(c *tls.Certificate, alpn string) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{alpn}, //nolint:gosec // see above
	}
	if c != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return config
}

// shown is what a pod's sidecar shows at its port for TCP to somebody that it may refuse later.
func (p *pod) shown(t *testing.T) []*x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.inbound(portTCP))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, caller(nil, "heddle-tcp"))
	if err := c.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates
}

// wantSignedBy wants what a pod shows on the wire to be its own, and signed by that authority.
func (p *pod) wantSignedBy(t *testing.T, a authority, name string) []*x509.Certificate {
	t.Helper()
	bundle, _, err := a.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	chain := p.shown(t)
	id, err := identity.VerifyLeaf(chain, bundle, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want, err := identity.ID(domain(), "shop", p.name)
	if err != nil {
		t.Fatal(err)
	}
	if got := service.AuthorityOf(chain, bundle); id != want || got != name {
		t.Errorf("%s shows a certificate of %s signed by %.16s, want %s by %.16s", p.name, id, got, want, name)
	}
	return chain
}
