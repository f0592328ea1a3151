package sidecar

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

const (
	// fileInterval is how often the mounted bundle is looked at. Kubernetes itself takes up to a minute to change it.
	fileInterval = 5 * time.Second
	// pollPace bounds how often the signer is asked when it answers at once.
	pollPace = time.Second
	maxPause = 30 * time.Second
)

// watchFile reads the bundle in the file whenever that changes. Looking at a few kilobytes now and then sees every kind of
// replacement, that of a ConfigMap by symbolic links included.
func (a *Agent) watchFile(ctx context.Context) error {
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	for {
		took, err := a.docs.readFile()
		a.health.file.hear(err)
		if took {
			a.sayBundle("file")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *Agent) sayBundle(from string) {
	_, b, _ := a.docs.current()
	a.o.Log.Info().Str("fingerprint", identity.Fingerprint(b)).Int("authorities", len(b.X509Authorities())).Str("from", from).
		Msg("trust bundle changed")
}

// followBundle asks the signer for each new bundle and tells it which one is in use here. The signer withdraws an old CA
// only when all have taken the new one, so what is in use is reported at once when it changes.
func (a *Agent) followBundle(ctx context.Context) error {
	failures := 0
	for a.docs.wait(ctx) {
		began := time.Now()
		err := a.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		a.health.bundle.hear(err)
		var wait time.Duration
		if err == nil {
			failures = 0
			wait = pollPace - time.Since(began)
		} else {
			failures++
			wait = pause(failures, rand.Float64())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// pause is how long to wait after so many failures in a row: doubled from one second up to half a minute, and up to a half
// of it left to chance, which is from 0 to 1.
func pause(failures int, chance float64) time.Duration {
	longest := pollPace << min(failures-1, 5)
	return time.Duration(float64(min(longest, maxPause)) * (1 - chance/2))
}

// poll asks once. It returns early, without an error, when there is something new to report.
func (a *Agent) poll(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shown, b, _ := a.docs.current()
	after, taken := identity.Fingerprint(b), a.taken()
	news := make(chan struct{})
	go func() { // ends with ctx, which ends when poll returns
		for {
			c, _, documents := a.docs.current()
			secrets := a.sds.Changed()
			if a.taken() != taken || c != shown && a.uses(c) {
				close(news)
				stop()
				return
			}
			select {
			case <-documents:
			case <-secrets:
			case <-ctx.Done():
				return
			}
		}
	}()
	got, err := a.signer.Bundle(ctx, after, taken)
	select {
	case <-news:
		if err != nil {
			return nil // it was we who ended it
		}
	default:
	}
	if err != nil || got == nil {
		return err
	}
	took, err := a.docs.takeBundle(got)
	if took {
		a.sayBundle("signer")
	}
	return err
}

// uses says whether a certificate is in use here. The signer waits with a rotation for the report of that, which is the
// certificate of the connection that asks.
func (a *Agent) uses(c *certificate) bool {
	return a.o.Proxy == nil || a.sds.Taken(bootstrap.CertificateSecret) == c.version()
}

// taken is the fingerprint of the bundle that is in use here: what Envoy has accepted, or without an Envoy what the
// agent itself goes by.
func (a *Agent) taken() string {
	if a.o.Proxy != nil {
		return a.sds.Taken(bootstrap.BundleSecret)
	}
	_, b, _ := a.docs.current()
	return identity.Fingerprint(b)
}
