package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

// whole runs a control plane with its signer, whose CA is in dir.
func whole(t *testing.T, dir string) (*Plane, *Signer) {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	o := Options{Source: source, Registry: prometheus.NewRegistry()}
	s, err := NewFilesSigner(SignerOptions{
		TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"), Listener: listen(), Registry: o.Registry,
	}, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := New(s.Behind(o, listen()))
	if err := s.certified(); err == nil || !strings.Contains(err.Error(), "no certificate yet") {
		t.Errorf("before it runs: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Whole{Plane: p, Signer: s}.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	wait(t, "/readyz", func() bool { code, body := p.asked("/readyz"); return code == http.StatusOK && body == "ok\n" })
	return p, s
}

// shows waits until /metrics has all of these lines.
func (p *Plane) shows(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		wait(t, line, func() bool { _, body := p.asked("/metrics"); return strings.Contains(body, "\n"+line) })
	}
}

func TestThatNothingIsSignedIsShownBeforeAnybodyAsks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	p, s := whole(t, dir)
	p.shows(t, "heddle_identity_signing 1\n", "heddle_identity_fault{code=\"ca-missing\"} 0\n")
	file := filepath.Join(dir, "ca.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for code, spoil := range map[string]func() error{
		"ca-missing": func() error { return os.Remove(file) },
		"ca-corrupt": func() error { return os.WriteFile(file, text[:10], 0o600) },
		"ca-exposed": func() error { return os.Chmod(file, 0o644) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		s.Keeper().Wake()
		p.shows(t, "heddle_identity_signing 0\n", "heddle_identity_fault{code=\""+code+"\"} 1\n")
		if _, body := p.asked("/metrics"); strings.Count(body, "heddle_identity_fault{") != 6 || strings.Count(body, "\"} 1\nheddle_identity_fault") > 1 {
			t.Errorf("with %s:\n%s", code, body)
		}
		if status, body := p.asked("/readyz"); status != http.StatusOK || !strings.Contains(body, "nothing is signed ("+code+")") {
			t.Errorf("with %s /readyz says %d %s", code, status, body)
		}
		if err := errors.Join(os.WriteFile(file, text, 0o600), os.Chmod(file, 0o600)); err != nil {
			t.Fatal(err)
		}
		s.Keeper().Wake()
		p.shows(t, "heddle_identity_signing 1\n", "heddle_identity_fault{code=\""+code+"\"} 0\n")
	}
}

func TestThatARotationIsUnderWayIsShownWithItsPhaseAndSinceWhen(t *testing.T) {
	p, s := whole(t, filepath.Join(t.TempDir(), "ca"))
	p.shows(t, "heddle_identity_rotation_phase{phase=\"steady\"} 1\n")
	begun := time.Now().Truncate(time.Second)
	if err := s.Keeper().Rotate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	p.shows(t, "heddle_identity_rotation_phase{phase=\"steady\"} 0\n")
	_, body := p.asked("/metrics")
	if strings.Count(body, "heddle_identity_rotation_phase{") != 4 {
		t.Errorf("not every phase is shown:\n%s", body)
	}
	_, rest, _ := strings.Cut(body, "\nheddle_identity_rotation_phase_since_seconds ")
	value, _, _ := strings.Cut(rest, "\n")
	since, err := strconv.ParseFloat(value, 64)
	if err != nil || since < float64(begun.Unix()) || since > float64(time.Now().Unix()) {
		t.Errorf("it began at %q, %v; want a time since %d", value, err, begun.Unix())
	}
}
