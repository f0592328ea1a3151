package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Times of renewal.
const (
	firstRetry  = 500 * time.Millisecond
	maxRetry    = 30 * time.Second
	maxNaked    = 5 * time.Second // without a valid certificate nothing works, so asking costs less than waiting
	shortRetry  = 100 * time.Millisecond
	maxTokenLen = 64 << 10
)

// renewal is when a certificate is replaced: after 50 % of the time for which it can be used, give or take 10 %, so that
// sidecars that started together do not renew together. The back-dating of NotBefore is no time of use. chance is 0 to 1.
func renewal(obtained, expires time.Time, chance float64) time.Time {
	part := 0.4 + 0.2*chance
	return obtained.Add(time.Duration(part * float64(expires.Sub(obtained))))
}

// retry is how long to wait after so many failures in a row: doubled from half a second up to 30 s, of which up to a half
// is left to chance, and at most a quarter of what the certificate has left, so that several attempts fit in.
func retry(failures int, left time.Duration, chance float64) time.Duration {
	wait := maxRetry
	if failures < 7 { // 2^6 times half a second is more than the most
		wait = min(wait, firstRetry<<max(0, failures-1))
	}
	if left > 0 {
		wait = min(wait, max(left/4, shortRetry))
	} else {
		wait = min(wait, maxNaked)
	}
	return time.Duration(float64(wait) * (1 - chance/2))
}

// renew keeps the certificate current. It never gives up.
func (a *Agent) renew(ctx context.Context) error {
	failures := 0
	for {
		err := a.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		a.health.certificate.hear(err)
		var wait time.Duration
		c, _, _ := a.docs.current()
		if err == nil {
			failures = 0
			wait = time.Until(renewal(c.obtained, c.expires(), rand.Float64()))
			a.o.Log.Info().Stringer("id", c.id).Time("expires", c.expires()).Dur("renewal_in", wait).Msg("certificate obtained")
		} else {
			failures++
			wait = retry(failures, left(c), rand.Float64())
		}
		if !a.rest(ctx, wait) {
			return nil
		}
	}
}

func left(c *certificate) time.Duration {
	if c == nil {
		return 0
	}
	return time.Until(c.expires())
}

// rest waits; false: ctx is done. It ends early when the certificate is no longer trusted by the bundle that came since:
// the CA that signed it was withdrawn, and peers refuse it.
func (a *Agent) rest(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	_, before, _ := a.docs.current()
	for {
		c, b, changed := a.docs.current()
		if c != nil && b != before && !c.trustedBy(b) {
			return true
		}
		select {
		case <-timer.C:
			return true
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// attempt asks for a certificate once.
func (a *Agent) attempt(ctx context.Context) error {
	token, err := a.token()
	if err != nil {
		return err
	}
	k, err := newKey()
	if err != nil {
		return err
	}
	csr, err := k.request()
	if err != nil {
		return err
	}
	got, err := a.signer.SVID(ctx, token, csr)
	switch {
	case err != nil:
		return err
	case len(got.Chain) == 0 || got.Bundle == nil:
		return errors.New("the signer's answer lacks the certificate or the trust bundle")
	}
	return a.docs.takeCertificate(&certificate{id: a.o.ID, chain: got.Chain, key: k, obtained: time.Now()}, got.Bundle)
}

// token gives what the next attempt shows; "": the certificate. A file is read each time, because Kubernetes replaces
// it; a join token is good for the first certificate only.
func (a *Agent) token() (string, error) {
	if a.o.TokenFile == "" {
		if c, _, _ := a.docs.current(); c != nil {
			return "", nil
		}
		return a.o.JoinToken, nil
	}
	text, err := readSmall(a.o.TokenFile, maxTokenLen)
	if err != nil {
		return "", fmt.Errorf("read the token to show to the signer: %w", err)
	}
	token := string(bytes.TrimSpace(text))
	if token == "" {
		return "", fmt.Errorf("read the token to show to the signer: %s is empty", a.o.TokenFile)
	}
	return token, nil
}
