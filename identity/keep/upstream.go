package keep

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// Upstream is a CA elsewhere that signs CAs of ours, such as cert-manager's or a SPIRE server's. Those sign the leaves: a
// leaf says which pod it was made for, which no other CA can write. Their keys are made and kept here.
type Upstream interface {
	// Sign signs a CA for the key of a CSR (PKCS #10, DER), whose one name is the trust domain's own ID. It gives the CA's
	// certificate first, then those towards the anchors, without an anchor; and the anchors, which may be others each
	// time. It answers before ctx ends.
	Sign(ctx context.Context, csr []byte) (chain, anchors []*x509.Certificate, err error)
}

const (
	// upstreamPatience is how long an upstream may take.
	upstreamPatience = 20 * time.Second
	// upstreamPause is between two tries to get another CA of it by itself.
	upstreamPause = time.Minute
)

// another makes a CA to begin with, or to move to: one of the upstream, or a new root.
func another(ctx context.Context, u Upstream, td spiffeid.TrustDomain, now time.Time) (*identity.Authority, error) {
	if u == nil {
		return identity.NewRoot(td, now, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamPatience)
	defer cancel()
	a, err := identity.NewIntermediate(td, now, func(csr []byte) (chain, anchors []*x509.Certificate, err error) {
		return u.Sign(ctx, csr)
	})
	if err != nil {
		return nil, fmt.Errorf("have the upstream CA sign one of ours: %w", err)
	}
	return a, nil
}

// renew begins to move to another CA of the upstream when half of the present one's life is over. A root that was made here is
// none of its, and moves only when somebody orders it.
func (k *Keeper) renew(ctx context.Context, was stored, c *ca) (begun bool, err error) {
	now := k.options.Now()
	if k.options.Upstream == nil || !c.signer().Given() || now.Before(c.signer().Due()) || now.Before(k.tried.Add(upstreamPause)) {
		return false, nil
	}
	k.tried = now
	next, err := another(ctx, k.options.Upstream, k.options.TrustDomain, now)
	if err != nil {
		if k.overdue != err.Error() {
			k.overdue = err.Error()
			k.options.Log.Error().Err(err).Time("expires", c.signer().Expires()).Msg("cannot renew the CA, which is due; it is tried again every minute")
		}
		return false, nil
	}
	k.overdue = ""
	moved, err := k.toward(c, next, now)
	if err != nil {
		return false, fmt.Errorf("move to the upstream's next CA: %w", err)
	}
	k.options.Log.Info().Str("authority", next.Name()).Time("expires", next.Expires()).Msg("the CA is due; a rotation to the upstream's next one begins")
	return true, k.save(ctx, was, moved)
}
