package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/keep"
)

// member is a sidecar as far as the signer sees one: it takes each bundle, and asks for a leaf whenever it is woken.
type member struct {
	client *client.Client

	mu     sync.Mutex
	cert   *tls.Certificate
	bundle *spiffebundle.Bundle
}

func (m *member) trusts() (*spiffebundle.Bundle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bundle, nil
}

func (m *member) shows() *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cert
}

func (m *member) renew(ctx context.Context, t testing.TB, token string) error {
	key := newKey(t)
	svid, err := m.client.SVID(ctx, token, csrOf(t, key))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cert, m.bundle = shown(key, svid.Chain), svid.Bundle
	m.cert.Leaf = svid.Chain[0]
	return nil
}

// live takes part until ctx ends.
func (m *member) live(ctx context.Context, t testing.TB) error {
	for {
		b, err := m.trusts()
		if err != nil {
			return err
		}
		name := identity.Fingerprint(b)
		got, err := m.client.Bundle(ctx, name, client.Uses{Bundle: name, Leaf: identity.CertificateName(m.shows().Leaf)})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case got != nil:
			m.mu.Lock()
			m.bundle = got
			m.mu.Unlock()
		}
		if err := m.renew(ctx, t, ""); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// The whole of it: the CA in a directory, the signer, and sidecars that ask over TLS. At every moment each sidecar must
// accept the leaf that each other one has then.
func TestARotationReachesEverySidecarAndNoneIsEverRefused(t *testing.T) {
	var server *Server
	members := roll{pods: map[string]attest.Pod{}}
	k, err := keep.InDirectory(keep.Options{
		TrustDomain: domain(t), Every: 5 * time.Millisecond, Log: zerolog.New(zerolog.NewTestWriter(t)),
		Limits: identity.Limits{Leaf: 24 * time.Hour, Token: time.Nanosecond, Slack: time.Nanosecond},
		Observe: func(now, since time.Time) identity.Observation {
			return server.Sidecars().Observe(members, now, since)
		},
	}, filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	joins := attest.NewJoinTokens(nil, nil)
	server = ForFiles(Options{ID: signerID(t), Authorities: k, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}, joins)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	var all []*member
	for i := range 5 {
		name := fmt.Sprint("web-", i)
		members.pods["shop/"+name] = attest.Pod{}
		members.started = append(members.started, attest.PodName{Namespace: "shop", Name: name})
		m := &member{}
		m.client = client.New(client.Options{Address: l.Addr().String(), Signer: signerID(t), Bundle: m.trusts, Certificate: m.shows})
		all = append(all, m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(all)+2)
	go func() { ended <- k.Run(ctx) }()
	go func() { ended <- server.Run(ctx, l) }()
	eventually(t, "the CA is there", func() bool { return k.Ready() == nil })
	old := k.Progress()
	first, _, err := k.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		m.bundle = first
		if err := m.renew(ctx, t, joins.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: fmt.Sprint("web-", i)})); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- m.live(ctx, t) }()
	}

	if err := k.Rotate(ctx, nil); err != nil {
		t.Fatal(err)
	}
	looks := 0
	eventually(t, "the rotation is over, and every sidecar has the new bundle alone", func() bool {
		looks++
		accepted(t, all)
		now := k.Progress()
		if now.Phase != identity.Steady || now.Signer == old.Signer {
			return false
		}
		for _, m := range all {
			if b, err := m.trusts(); err != nil || identity.Fingerprint(b) != now.Generation {
				return false
			}
		}
		return true
	})
	t.Logf("looked %d times", looks)
	cancel()
	for range cap(ended) {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// accepted holds that everybody accepts everybody.
func accepted(t *testing.T, all []*member) {
	t.Helper()
	for i, by := range all {
		for j, who := range all {
			// The leaf first: a bundle that is read later knows at least as much.
			leaf := who.shows()
			bundle, err := by.trusts()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := identity.VerifyLeaf([]*x509.Certificate{leaf.Leaf}, bundle, time.Now()); err != nil && who.shows() == leaf {
				t.Fatalf("sidecar %d refuses sidecar %d: %v", i, j, err)
			}
		}
	}
}
