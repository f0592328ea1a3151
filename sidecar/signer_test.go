package sidecar

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
)

// signer is a CA that can be away, rotate, and remembers what it was shown. It belongs to one agent.
type signer struct {
	t        testing.TB
	id       spiffeid.ID
	lifetime time.Duration

	mu       sync.Mutex
	ca       *identity.Authority
	trusted  *spiffebundle.Bundle
	sequence uint64
	changed  chan struct{}
	away     error
	attempts []time.Time
	tokens   []string
	taken    string
	heard    chan struct{} // closed and replaced when taken changes
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func domain() spiffeid.TrustDomain { return spiffeid.RequireTrustDomainFromString("cluster.local") }

func idOf(account string) spiffeid.ID { return must(identity.ID(domain(), "shop", account)) }

func newSigner(t testing.TB, account string, lifetime time.Duration) *signer {
	s := &signer{
		t: t, id: idOf(account), lifetime: lifetime, changed: make(chan struct{}), heard: make(chan struct{}),
	}
	s.ca = must(identity.NewRoot(domain(), time.Now(), 0))
	s.trust(s.ca.Bundle())
	return s
}

// sharing gives the signer of another workload with the same CA.
func (s *signer) sharing(account string) *signer {
	other := newSigner(s.t, account, s.lifetime)
	other.ca = s.ca
	other.trust(s.bundle())
	return other
}

func (s *signer) trust(b *spiffebundle.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	s.trusted = b.Clone()
	s.trusted.SetSequenceNumber(s.sequence)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *signer) bundle() *spiffebundle.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trusted
}

func (s *signer) setAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

func (s *signer) asked() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.attempts...)
}

// shown gives the tokens of all attempts.
func (s *signer) shown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tokens)
}

func (s *signer) SVID(ctx context.Context, token string, csr []byte) (client.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, time.Now())
	s.tokens = append(s.tokens, token)
	if s.away != nil {
		return client.SVID{}, s.away
	}
	public, err := identity.CheckCSR(csr, s.id)
	if err != nil {
		return client.SVID{}, err
	}
	chain, err := s.ca.Issue(ctx, identity.Request{ID: s.id, Key: public, Pod: "pod-1", Lifetime: s.lifetime})
	return client.SVID{Chain: chain, Bundle: s.trusted}, err
}

func (s *signer) Bundle(ctx context.Context, after, taken string) (*spiffebundle.Bundle, error) {
	s.mu.Lock()
	if s.taken != taken {
		s.taken = taken
		close(s.heard)
		s.heard = make(chan struct{})
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		b, changed, away := s.trusted, s.changed, s.away
		s.mu.Unlock()
		if away != nil {
			return nil, away
		}
		if identity.Fingerprint(b) != after {
			return b, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *signer) JWT(ctx context.Context, audience []string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return "", s.away
	}
	return s.ca.Mint(ctx, s.id, audience, time.Minute)
}

// waitTaken waits until the agent has reported that Envoy has the current bundle.
func (s *signer) waitTaken() {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		taken, want, heard := s.taken, identity.Fingerprint(s.trusted), s.heard
		s.mu.Unlock()
		if taken == want {
			return
		}
		select {
		case <-heard:
		case <-deadline:
			s.t.Fatalf("Envoy's bundle is reported as %q, want %q", taken, want)
		}
	}
}

var errAway = errors.New("the signer is away")

// shortDir is a temporary directory for this user alone whose name leaves room for a unix socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir := must(os.MkdirTemp("", "hdl"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

const secretToken = "heddle-test-token-0123456789"

// options are those of an agent of s with everything that New asks for, in dir.
func options(t testing.TB, s *signer, dir string) Options {
	t.Helper()
	bundle, token := filepath.Join(dir, "bundle.json"), filepath.Join(dir, "token")
	writeFile(t, bundle, must(identity.MarshalBundle(s.bundle())))
	writeFile(t, token, []byte(secretToken+"\n"))
	return Options{
		ID: s.id, BundleFile: bundle, TokenFile: token, Connect: func(Trust) Signer { return s },
		SDS: filepath.Join(dir, "sds.sock"), Log: zerolog.New(zerolog.NewTestWriter(t)),
	}
}

// run runs an agent until the test ends. Its sockets are open when it returns.
func run(t testing.TB, o Options) *Agent {
	t.Helper()
	a := must(New(o))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("agent:", err)
		}
	})
	for _, path := range []string{o.SDS, o.WorkloadAPI, o.Relay.Socket, strings.TrimPrefix(o.Ready, "unix:")} {
		eventually(t, "a socket is open", func() bool {
			c, err := net.Dial("unix", path)
			return path == "" || err == nil && c.Close() == nil
		})
	}
	return a
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}
