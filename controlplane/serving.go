package controlplane

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

// Serving is a certificate of this process, renewed while [Signer.Run] runs and as soon as the CA rotates.
type Serving struct {
	signer    *Signer
	names     []string // DNS
	current   identity.Current
	leaf      atomic.Pointer[service.Leaf]
	certified chan struct{} // closed when there is a certificate
}

// Serving makes a certificate by which clients know this process that go by DNS names: of a webhook, or of the API that
// the command line asks. It must be called before Run.
func (s *Signer) Serving(names ...string) *Serving {
	v := &Serving{signer: s, names: names, certified: make(chan struct{})}
	s.servings = append(s.servings, v)
	return v
}

// String says whose certificate it is.
func (v *Serving) String() string {
	if len(v.names) == 0 {
		return v.signer.serverID.String()
	}
	return v.signer.serverID.String() + " as " + strings.Join(v.names, ", ")
}

// CA gives the certificates that a client must trust, in PEM, as a webhook's caBundle wants them, with a channel that is
// closed when they may have changed: a client that has not taken the new ones by the time that a rotation lets the new
// CA sign will refuse this server.
func (v *Serving) CA() ([]byte, <-chan struct{}, error) {
	bundle, changed, err := v.signer.keeper.Bundle()
	if err != nil {
		return nil, changed, err
	}
	var out bytes.Buffer
	for _, c := range bundle.X509Authorities() {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, changed, fmt.Errorf("write the CA's certificates: %w", err)
		}
	}
	return out.Bytes(), changed, nil
}

// handshakePatience is as long as a sidecar waits for a connection.
const handshakePatience = 5 * time.Second

// GetCertificate is for tls.Config's field of that name. Who comes before there is a certificate waits for it: sidecars
// that a restart has sent away come back at once, and would stay away longer after each failure.
func (v *Serving) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	v.await(hello.Context())
	return v.current.GetCertificate(hello)
}

// await waits until there is a certificate, or for a while.
func (v *Serving) await(ctx context.Context) {
	enough := time.NewTimer(handshakePatience)
	defer enough.Stop()
	select {
	case <-v.certified:
	case <-enough.C:
	case <-ctx.Done():
	}
}

// use puts a certificate in use.
func (v *Serving) use() func(*tls.Certificate) {
	first := sync.OnceFunc(func() { close(v.certified) })
	return func(c *tls.Certificate) {
		v.current.Set(c)
		first()
	}
}

func (v *Serving) renewer() *identity.Renewer {
	return identity.NewRenewer(identity.RenewerOptions{
		Fetch: v.certify, Use: v.use(),
		Failed: func(err error, retry time.Duration) {
			level := zerolog.ErrorLevel
			if keep.CodeOf(err) == keep.Unavailable { // at the start, while the CA is read
				level = zerolog.DebugLevel
			}
			log := v.signer.log()
			log.WithLevel(level).Err(err).Stringer("certificate", v).Dur("retry", retry).Msg("the control plane's own certificate cannot be renewed")
		},
	})
}

// certify makes the certificate. A follower does so too, and no process with a fault does: see keep.Keeper.Issuer.
func (v *Serving) certify(ctx context.Context) (*tls.Certificate, error) {
	s := v.signer
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", v, err)
	}
	if err := s.readable(ctx); err != nil {
		return nil, err
	}
	issuer, err := s.keeper.Issuer()
	if err != nil {
		return nil, err
	}
	chain, err := issuer.Issue(ctx, identity.Request{ID: s.serverID, Key: key.Public(), Lifetime: s.options.Lifetime, DNSNames: v.names})
	if err != nil {
		return nil, err
	}
	bundle, err := s.bundle()
	if err != nil {
		return nil, err
	}
	own := service.LeafOf(v.String(), chain, bundle)
	v.leaf.Store(&own)
	return identity.Pair(key, chain), nil
}
