package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

// shown is the certificate that sidecars are shown by a process that signs as well. It is renewed while [Signer.Run] runs
// and as soon as the CA rotates.
type shown struct {
	signer    *Signer
	current   identity.Current
	leaf      atomic.Pointer[service.Leaf]
	certified chan struct{} // closed when there is a certificate
}

// handshakePatience is as long as a sidecar waits for a connection.
const handshakePatience = 5 * time.Second

// certificate is for tls.Config.GetCertificate. Who comes before there is a certificate waits for it: sidecars
// that a restart has sent away come back at once, and would stay away longer after each failure.
func (v *shown) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	v.await(hello.Context())
	return v.current.GetCertificate(hello)
}

// await waits until there is a certificate, or for a while.
func (v *shown) await(ctx context.Context) {
	enough := time.NewTimer(handshakePatience)
	defer enough.Stop()
	select {
	case <-v.certified:
	case <-enough.C:
	case <-ctx.Done():
	}
}

// use puts a certificate in use.
func (v *shown) use() func(*tls.Certificate) {
	first := sync.OnceFunc(func() { close(v.certified) })
	return func(c *tls.Certificate) {
		v.current.Set(c)
		first()
	}
}

func (v *shown) renewer() *identity.Renewer {
	return identity.NewRenewer(identity.RenewerOptions{
		Fetch: v.certify, Use: v.use(),
		Failed: func(err error, retry time.Duration) {
			level := zerolog.ErrorLevel
			if keep.CodeOf(err) == keep.Unavailable { // at the start, while the CA is read
				level = zerolog.DebugLevel
			}
			log := v.signer.log()
			log.WithLevel(level).Err(err).Stringer("certificate", v.signer.serverID).Dur("retry", retry).Msg("the control plane's own certificate cannot be renewed")
		},
	})
}

// certify makes the certificate. A follower does so too, and no process with a fault does: see keep.Keeper.Issuer.
func (v *shown) certify(ctx context.Context) (*tls.Certificate, error) {
	s := v.signer
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", s.serverID, err)
	}
	if err := s.readable(ctx); err != nil {
		return nil, err
	}
	issuer, err := s.keeper.Issuer()
	if err != nil {
		return nil, err
	}
	chain, err := issuer.Issue(ctx, identity.Request{ID: s.serverID, Key: key.Public(), Lifetime: s.options.Lifetime})
	if err != nil {
		return nil, err
	}
	bundle, err := s.bundle()
	if err != nil {
		return nil, err
	}
	own := service.LeafOf(s.serverID.String(), chain, bundle)
	v.leaf.Store(&own)
	return identity.Pair(key, chain), nil
}
