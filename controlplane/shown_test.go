package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

func TestADoorIsTrustedThroughRenewalAndRotation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewFilesSigner(SignerOptions{
		TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"), Listener: l, Lifetime: 4 * time.Second, Skew: time.Millisecond, Log: zerolog.Nop(),
	}, filepath.Join(t.TempDir(), "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS() // makes the door's certificate
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	dial := func() *x509.Certificate {
		t.Helper()
		bundle, err := s.bundle()
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		defer near.Close()
		shaken := make(chan error, 1)
		go func() {
			shaken <- tls.Server(far, &tls.Config{GetCertificate: s.door.certificate, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}).Handshake()
		}()
		client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // looked at below
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		chain := client.ConnectionState().PeerCertificates
		if id, err := identity.VerifyLeaf(chain, bundle, time.Now()); err != nil || id != s.ServerID() {
			t.Fatalf("who has the bundle is shown %s, %v", id, err)
		}
		return chain[0]
	}
	s.await(ctx)
	first := dial()
	wait(t, "a renewed certificate", func() bool { return dial().SerialNumber.Cmp(first.SerialNumber) != 0 })
	before := s.Keeper().Authorities()[0]
	if err := s.Keeper().Rotate(ctx, nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "a certificate of another CA", func() bool { return dial().CheckSignatureFrom(before.Certificate()) != nil })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
