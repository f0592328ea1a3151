package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/test/transcript"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func domain(t testing.TB) spiffeid.TrustDomain {
	return must[spiffeid.TrustDomain](t)(identity.ParseTrustDomain("cluster.local"))
}

func idOf(t testing.TB, namespace, account string) spiffeid.ID {
	return must[spiffeid.ID](t)(identity.ID(domain(t), namespace, account))
}

func signerID(t testing.TB) spiffeid.ID { return idOf(t, "heddle-system", "heddle-signer") }

func newRoot(t testing.TB) *identity.Authority {
	return must[*identity.Authority](t)(identity.NewRoot(domain(t), time.Now(), 0))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func csrOf(t testing.TB, key *ecdsa.PrivateKey) []byte {
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
}

// authorities are a CA that a test changes.
type authorities struct {
	mu      sync.Mutex
	signing *identity.Authority
	bundle  *spiffebundle.Bundle
	changed chan struct{}
	fault   error
}

func newAuthorities(ca *identity.Authority) *authorities {
	return &authorities{signing: ca, bundle: ca.Bundle(), changed: make(chan struct{})}
}

func (a *authorities) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fault
}

func (a *authorities) Issuer() (identity.Issuer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signing, nil
}

func (a *authorities) Tokens() (identity.JWTSigner, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signing, nil
}

func (a *authorities) Bundle() (*spiffebundle.Bundle, <-chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle, a.changed, nil
}

func (a *authorities) set(signing *identity.Authority, bundle *spiffebundle.Bundle) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signing, a.bundle = signing, bundle
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *authorities) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = err
}

// goneError is how whoever keeps the CA says that it is not there.
type goneError struct{}

func (goneError) Error() string     { return "the CA is gone; restore it" }
func (goneError) ErrorCode() string { return "ca-missing" }

// signer is a running server.
type signer struct {
	t        testing.TB
	server   *Server
	address  string
	ca       *authorities
	log      *transcript.Buffer
	registry *prometheus.Registry
}

// run serves what with makes on a loopback address until the test ends.
func run(t testing.TB, with func(Options) *Server, change ...func(*Options)) *signer {
	t.Helper()
	s := &signer{t: t, ca: newAuthorities(newRoot(t)), log: &transcript.Buffer{}, registry: prometheus.NewRegistry()}
	o := Options{ID: signerID(t), Authorities: s.ca, Registry: s.registry, Log: zerolog.New(s.log)}
	for _, c := range change {
		c(&o)
	}
	s.server = with(o)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.server.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("the signer's log:\n%s", s.log)
		}
	})
	return s
}

// forFiles runs a signer with join tokens.
func forFiles(t testing.TB, change ...func(*Options)) (*signer, *attest.JoinTokens) {
	tokens := attest.NewJoinTokens(nil, nil)
	return run(t, func(o Options) *Server { return ForFiles(o, tokens) }, change...), tokens
}

// client makes a client that trusts the signer's bundle and shows cert, which may be nil.
func (s *signer) client(cert *tls.Certificate) *client.Client {
	_, bundleErr := s.bundleNow()
	if bundleErr != nil {
		s.t.Fatal(bundleErr)
	}
	c := client.New(client.Options{
		Address: s.address, Signer: signerID(s.t), Bundle: s.bundleNow,
		Certificate: func() *tls.Certificate { return cert },
	})
	s.t.Cleanup(c.Close)
	return c
}

func (s *signer) bundleNow() (*spiffebundle.Bundle, error) {
	b, _, err := s.ca.Bundle()
	return b, err
}

// sidecar gives a certificate of a pod, from a CA and not by the API.
func (s *signer) sidecar(namespace, account, pod string, change ...func(*identity.Request)) *tls.Certificate {
	return certificate(s.t, s.ca.signing, idOf(s.t, namespace, account), pod, change...)
}

func certificate(t testing.TB, ca *identity.Authority, id spiffeid.ID, pod string, change ...func(*identity.Request)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	r := identity.Request{ID: id, Key: key.Public(), Pod: pod, PodUID: "uid-" + pod}
	for _, c := range change {
		c(&r)
	}
	return shown(key, must[[]*x509.Certificate](t)(ca.Issue(t.Context(), r)))
}

func shown(key *ecdsa.PrivateKey, chain []*x509.Certificate) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

// wantCode holds that the signer refused with a code, and counted it.
func (s *signer) wantCode(err error, want string) {
	s.t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		s.t.Fatalf("got %v, want a refusal with code %s", err, want)
	}
	if e.Code != want {
		s.t.Errorf("refused with code %q, want %q: %v", e.Code, want, err)
	}
	if s.counted("heddle_identity_refusals_total", "reason", want) == 0 {
		s.t.Errorf("refusal %s was not counted", want)
	}
}

func (s *signer) counted(name, label, value string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}
