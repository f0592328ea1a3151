package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	stdlog "log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// own is the certificate that the signer itself shows, made when it is first needed, and again when half its time is
// over or another authority signs.
type own struct {
	mu     sync.Mutex
	cert   *tls.Certificate
	chain  []*x509.Certificate
	issuer identity.Issuer
	renew  time.Time
}

// Certified says why nobody can connect, for want of a certificate; nil: everybody can. It renews the certificate if that
// is due: asked from time to time, this process has one that lasts for a while even when the CA is gone.
func (s *Server) Certified(ctx context.Context) error {
	_, err := s.certificate(ctx)
	return err
}

func (s *Server) shows(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := s.certificate(hello.Context())
	if err != nil {
		s.options.Log.Error().Err(err).Msg("the signer has no certificate of its own; nobody can connect")
	}
	return cert, err
}

func (s *Server) certificate(ctx context.Context) (*tls.Certificate, error) {
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	now := s.options.Now()
	issuer, err := s.options.Authorities.Issuer()
	if err == nil && s.own.cert != nil && issuer == s.own.issuer && now.Before(s.own.renew) {
		return s.own.cert, nil
	}
	var cert *tls.Certificate
	var chain []*x509.Certificate
	if err == nil {
		cert, chain, err = s.issueOwn(ctx, issuer)
	}
	if err != nil {
		if s.own.cert != nil && now.Before(s.own.cert.Leaf.NotAfter) {
			return s.own.cert, nil // so that callers are told what is wrong
		}
		return nil, fmt.Errorf("make the signer's own certificate: %w", err)
	}
	s.own.cert, s.own.chain, s.own.issuer = cert, chain, issuer
	s.own.renew = now.Add(cert.Leaf.NotAfter.Sub(now) / 2)
	return cert, nil
}

func (s *Server) issueOwn(ctx context.Context, issuer identity.Issuer) (*tls.Certificate, []*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// A caller who hangs up must not spoil it for the others.
	ctx = context.WithoutCancel(ctx)
	chain, err := issuer.Issue(ctx, identity.Request{ID: s.options.ID, Key: key.Public(), Lifetime: s.options.Lifetime})
	if err != nil {
		return nil, nil, err
	}
	return identity.Pair(key, chain), chain, nil
}

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         s.shows,
		ClientAuth:             tls.RequestClientCert, // with a token one needs none
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil
			}
			_, err := s.verify(state.PeerCertificates)
			if err != nil {
				s.metrics.refused(problemOf(err).code)
				s.options.Log.Info().Err(err).Msg("refused a client certificate")
			}
			return err
		},
	}
}

// verify says whose certificate it is, by the bundle as it is now.
func (s *Server) verify(chain []*x509.Certificate) (spiffeid.ID, error) {
	bundle, _, err := s.options.Authorities.Bundle()
	if err != nil {
		return spiffeid.ID{}, err
	}
	return identity.VerifyLeaf(chain, bundle, s.options.Now())
}

// caller says which sidecar's certificate a request came with.
func (s *Server) caller(r *http.Request) (spiffeid.ID, identity.Workload, *x509.Certificate, error) {
	fail := func(err error) (spiffeid.ID, identity.Workload, *x509.Certificate, error) {
		return spiffeid.ID{}, identity.Workload{}, nil, err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return fail(&problem{http.StatusUnauthorized, codeNoCertificate, "show the certificate that POST /v1/svid gave", nil})
	}
	bundle, _, err := s.options.Authorities.Bundle()
	if err != nil {
		return fail(err)
	}
	w, err := identity.VerifyPod(r.TLS.PeerCertificates, bundle, s.options.Now())
	if err != nil {
		return fail(err)
	}
	id, err := identity.ID(bundle.TrustDomain(), w.Namespace, w.Account)
	if err != nil {
		return fail(err)
	}
	if !s.limits.Allow(w.Namespace+"/"+w.Pod+"/"+w.PodUID, s.options.Now()) {
		return fail(&problem{http.StatusTooManyRequests, codeBusy, "this sidecar asks too often; wait before asking again", nil})
	}
	if s.present != nil { // the certificate of a pod that is deleted is valid for a while still
		if err := s.present.Present(w); err != nil {
			return fail(err)
		}
	}
	return id, w, r.TLS.PeerCertificates[0], nil
}

// errorLog brings net/http's own lines into ours. They name addresses and TLS alerts, never content.
type errorLog struct{ log zerolog.Logger }

func (e errorLog) Write(line []byte) (int, error) {
	e.log.Debug().Str("library", "net/http").Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}

func newErrorLog(log zerolog.Logger) *stdlog.Logger { return stdlog.New(errorLog{log}, "", 0) }
