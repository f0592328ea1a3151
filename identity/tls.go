package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
)

// Pair is a certificate with its key, as TLS wants it; the leaf is first in the chain.
func Pair(key crypto.PrivateKey, chain []*x509.Certificate) *tls.Certificate {
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// Server is the side of mutual TLS that takes connections from sidecars, and from nobody else: TLS 1.3, a certificate of
// a pod of the bundle's trust domain, checked by [VerifyPod] at every handshake. There is no resumption: a session that
// began under a bundle of the past would skip the check.
func Server(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), bundle func() (*spiffebundle.Bundle, error)) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         certificate,
		ClientAuth:             tls.RequireAnyClientCert, // VerifyConnection decides; Go's own check knows nothing of SPIFFE
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			b, err := bundle()
			if err != nil {
				return err
			}
			_, err = VerifyPod(state.PeerCertificates, b, time.Now())
			return err
		},
	}
}
