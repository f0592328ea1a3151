// Package certs gives tests certificates of a mesh of their own, made by the real CA, without attestation: for tests of
// what comes after it.
package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// CA is one of a mesh whose trust domain is cluster.local.
type CA struct {
	t         testing.TB
	authority *identity.Authority
	trusted   atomic.Pointer[spiffebundle.Bundle]
}

// New makes a CA with a root of its own.
func New(t testing.TB) *CA {
	t.Helper()
	authority, err := identity.NewRoot(spiffeid.RequireTrustDomainFromString("cluster.local"), time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &CA{t: t, authority: authority}
	c.Trust(c)
	return c
}

// Trust says by which CAs' certificates the servers of this one know their peers from now on; at first its own.
func (c *CA) Trust(all ...*CA) {
	c.t.Helper()
	trusted := spiffebundle.New(c.authority.TrustDomain())
	for _, o := range all {
		for _, root := range o.authority.Bundle().X509Authorities() {
			trusted.AddX509Authority(root)
		}
	}
	c.trusted.Store(trusted)
}

// Bundle is what verifiers must trust.
func (c *CA) Bundle() (*spiffebundle.Bundle, error) { return c.trusted.Load(), nil }

// ControlPlane is the identity of [CA.Server].
func (c *CA) ControlPlane() spiffeid.ID { return c.id("heddle-system", "heddle") }

func (c *CA) id(namespace, account string) spiffeid.ID {
	c.t.Helper()
	id, err := identity.ID(c.authority.TrustDomain(), namespace, account)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// Server is the control plane's side of mutual TLS.
func (c *CA) Server() *tls.Config {
	c.t.Helper()
	own := c.certificate(identity.Request{ID: c.ControlPlane()})
	return identity.Server(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }, c.Bundle)
}

// Client is a sidecar's side. An empty pod gives a certificate that names none.
func (c *CA) Client(w identity.Workload) *tls.Config {
	c.t.Helper()
	own := c.certificate(identity.Request{ID: c.id(w.Namespace, w.Account), Pod: w.Pod, PodUID: w.PodUID})
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{own},
		InsecureSkipVerify: true, // VerifyConnection does it, by SPIFFE ID instead of host name
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := identity.VerifyLeaf(state.PeerCertificates, c.authority.Bundle(), time.Now())
			return err
		},
	}
}

// Careless is [CA.Client] with a certificate that was changed before it was signed, as no CA of ours would sign it.
func (c *CA) Careless(w identity.Workload, change func(*x509.Certificate)) *tls.Config {
	c.t.Helper()
	client := c.Client(w)
	own := &client.Certificates[0]
	material, err := c.authority.Material()
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := tls.X509KeyPair(material.Certificates, material.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	template := *own.Leaf
	template.ExtraExtensions = nil
	for _, e := range template.Extensions { // ours; the others follow from the template's fields
		if e.Id[0] == 2 && e.Id[1] == 25 {
			template.ExtraExtensions = append(template.ExtraExtensions, e)
		}
	}
	change(&template)
	der, err := x509.CreateCertificate(rand.Reader, &template, root.Leaf, own.Leaf.PublicKey, root.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	own.Certificate, own.Leaf = [][]byte{der}, nil // crypto/tls reads it when it is shown
	return client
}

func (c *CA) certificate(r identity.Request) tls.Certificate {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Key = key.Public()
	chain, err := c.authority.Issue(context.Background(), r)
	if err != nil {
		c.t.Fatal(err)
	}
	out := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

// Named is a server's certificate for DNS names.
func (c *CA) Named(names ...string) *tls.Certificate {
	c.t.Helper()
	own := c.certificate(identity.Request{ID: c.ControlPlane(), DNSNames: names})
	return &own
}

// PEM is the CA's certificate, as a webhook's caBundle wants it.
func (c *CA) PEM() []byte {
	var out []byte
	for _, cert := range c.authority.Bundle().X509Authorities() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// Request gives a new key, and what asks a signer to certify it (PKCS #10, DER): who asks is for the signer to find out.
func Request(t testing.TB) (key *ecdsa.PrivateKey, csr []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		t.Fatal(err)
	}
	return key, csr
}
