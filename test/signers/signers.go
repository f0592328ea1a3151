// Package signers is the signer as one workload sees it, for tests of whoever holds an identity: it signs what it is
// asked for, with no transport between, and can be away or rotate.
package signers

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
)

// Domain is the trust domain.
func Domain() spiffeid.TrustDomain { return spiffeid.RequireTrustDomainFromString("cluster.local") }

func idOf(t testing.TB, account string) spiffeid.ID {
	t.Helper()
	id, err := identity.ID(Domain(), "shop", account)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// NewRoot makes a CA of the trust domain.
func NewRoot(t testing.TB) *identity.Authority {
	t.Helper()
	ca, err := identity.NewRoot(Domain(), time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Signer is a CA that can be away, rotate, and remembers what it was shown. It belongs to one workload.
type Signer struct {
	ID spiffeid.ID // of the workload

	t        testing.TB
	lifetime time.Duration

	mu       sync.Mutex
	ca       *identity.Authority
	trusted  *spiffebundle.Bundle
	sequence uint64
	changed  chan struct{}
	away     error
	attempts []time.Time
	tokens   []string
	uses     client.Uses
	heard    chan struct{} // closed and replaced when uses changes
}

// New makes the signer of an account in namespace shop, whose certificates live so long.
func New(t testing.TB, account string, lifetime time.Duration) *Signer {
	s := &Signer{
		ID: idOf(t, account), t: t, lifetime: lifetime, changed: make(chan struct{}), heard: make(chan struct{}),
	}
	s.ca = NewRoot(t)
	s.Trust(s.ca.Bundle())
	return s
}

// Sharing gives the signer of another workload with the same CA.
func (s *Signer) Sharing(account string) *Signer {
	other := New(s.t, account, s.lifetime)
	other.ca = s.ca
	other.Trust(s.Trusted())
	return other
}

// Trust makes b the bundle that is handed out, as a later one than all before.
func (s *Signer) Trust(b *spiffebundle.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	s.trusted = b.Clone()
	s.trusted.SetSequenceNumber(s.sequence)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Trusted is the bundle that is handed out.
func (s *Signer) Trusted() *spiffebundle.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trusted
}

// SetAway has every question fail with err; nil: none.
func (s *Signer) SetAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

// Away says why questions fail; nil: they do not.
func (s *Signer) Away() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// CA is who signs.
func (s *Signer) CA() *identity.Authority {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ca
}

// Sign has another CA sign from now on; the bundle stays.
func (s *Signer) Sign(by *identity.Authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ca = by
}

// Asked gives the times of all attempts to get a certificate.
func (s *Signer) Asked() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.attempts...)
}

// Shown gives the tokens of all attempts.
func (s *Signer) Shown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tokens)
}

// SVID signs for the workload.
func (s *Signer) SVID(ctx context.Context, token string, csr []byte) (client.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, time.Now())
	s.tokens = append(s.tokens, token)
	if s.away != nil {
		return client.SVID{}, s.away
	}
	public, err := identity.CheckCSR(csr, s.ID)
	if err != nil {
		return client.SVID{}, err
	}
	chain, err := s.ca.Issue(ctx, identity.Request{ID: s.ID, Key: public, Pod: "pod-1", Lifetime: s.lifetime})
	return client.SVID{Chain: chain, Bundle: s.trusted}, err
}

// Bundle waits for another bundle than after.
func (s *Signer) Bundle(ctx context.Context, after string, uses client.Uses) (*spiffebundle.Bundle, error) {
	s.mu.Lock()
	if s.uses != uses {
		s.uses = uses
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

// JWT signs a token of the workload.
func (s *Signer) JWT(ctx context.Context, audience []string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return "", s.away
	}
	return s.ca.Mint(ctx, s.ID, audience, time.Minute)
}

// Taken is what was last reported to be in use.
func (s *Signer) Taken() client.Uses {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses
}

// WaitTaken waits until it was reported that the current bundle is in use.
func (s *Signer) WaitTaken() {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		taken, want, heard := s.uses.Bundle, identity.Fingerprint(s.trusted), s.heard
		s.mu.Unlock()
		if taken == want {
			return
		}
		select {
		case <-heard:
		case <-deadline:
			s.t.Fatalf("the bundle in use is reported as %q, want %q", taken, want)
		}
	}
}
