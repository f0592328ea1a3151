package hold

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/identity"
)

// maxToken is the size of the longest token that is read from a file, in bytes.
const maxToken = 64 << 10

// newRenewer keeps the certificate current. It never gives up.
func (h *Holder) newRenewer() *identity.Renewer {
	return identity.NewRenewer(identity.RenewerOptions{
		Fetch: h.attempt,
		Use: func(c *tls.Certificate) {
			h.health.certificate.hear(nil)
			h.o.Log.Info().Stringer("id", h.o.ID).Time("expires", c.Leaf.NotAfter).Msg("certificate obtained")
		},
		Failed: func(err error, _ time.Duration) { h.health.certificate.hear(err) },
	})
}

func (h *Holder) renew(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.renewer.Run(ctx) })
	group.Go(func() error { return h.watchTrust(ctx, h.renewer) })
	return group.Wait()
}

// watchTrust asks for a new certificate when a bundle comes that does not trust the present one: the CA that signed it was
// withdrawn, and peers refuse it.
func (h *Holder) watchTrust(ctx context.Context, r *identity.Renewer) error {
	for {
		c, b, changed := h.docs.current()
		if c != nil && !c.trustedBy(b) && left(c) > 0 {
			r.Renew()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// left is how long the certificate can still be used.
func left(c *Certificate) time.Duration { return time.Until(c.Expires()) }

// attempt asks for a certificate once.
func (h *Holder) attempt(ctx context.Context) (*tls.Certificate, error) {
	token, err := h.token(ctx)
	if err != nil {
		return nil, err
	}
	k, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := k.request()
	if err != nil {
		return nil, err
	}
	got, err := h.signer.SVID(ctx, token, csr)
	switch {
	case err != nil:
		return nil, err
	case len(got.Chain) == 0 || got.Bundle == nil:
		return nil, errors.New("the signer's answer lacks the certificate or the trust bundle")
	}
	if err := h.o.With(ctx, token); err != nil {
		return nil, err
	}
	c := &Certificate{id: h.o.ID, chain: got.Chain, key: k}
	return c.TLS(), h.docs.takeCertificate(c, got.Bundle)
}

// token gives what the next attempt shows; "": the certificate. A file is read each time, because Kubernetes replaces
// it; a join token is good once, so there is another one for each time when no certificate is valid.
func (h *Holder) token(ctx context.Context) (string, error) {
	if h.o.TokenFile == "" {
		return h.joinToken(ctx)
	}
	text, err := readSmall(h.o.TokenFile, maxToken)
	if err != nil {
		return "", fmt.Errorf("read the token to show to the signer: %w", err)
	}
	token := string(bytes.TrimSpace(text))
	if token == "" {
		return "", fmt.Errorf("read the token to show to the signer: %s is empty", h.o.TokenFile)
	}
	return token, nil
}

func (h *Holder) joinToken(ctx context.Context) (string, error) {
	if c, _, _ := h.docs.current(); c != nil && left(c) > 0 {
		return "", nil
	}
	token, err := h.o.Join(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("get a join token: %w", err)
	case token.IsZero():
		return "", errors.New("get a join token: an empty one came")
	}
	return token.value(), nil
}
