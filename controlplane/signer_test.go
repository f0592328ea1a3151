package controlplane

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestASidecarThatComesBeforeTheFirstCertificateWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewFilesSigner(SignerOptions{TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"), Listener: l}, filepath.Join(t.TempDir(), "ca"), nil)
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		server := tls.Server(far, s.TLS())
		client := tls.Client(near, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}) // looked at below
		served, shaken := make(chan error, 1), make(chan error, 1)
		go func() { served <- server.Handshake() }()
		go func() { shaken <- client.Handshake() }()
		synctest.Wait()
		select {
		case err := <-shaken:
			t.Fatalf("without a certificate the handshake ended: %v", err)
		default:
		}

		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		if err := <-shaken; err != nil {
			t.Errorf("the handshake failed: %v", err)
		} else if got := client.ConnectionState().PeerCertificates[0].URIs[0].String(); got != s.ServerID().String() {
			t.Errorf("the certificate is %s's, want %s's", got, s.ServerID())
		}
		_ = near.Close()
		if err := <-served; err == nil {
			t.Error("a caller without a certificate was taken")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
