package hold

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
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
func (h *Holder) watchFile(ctx context.Context) error {
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	for {
		took, err := h.docs.readFile()
		h.health.file.hear(err)
		if took {
			h.sayBundle("file")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *Holder) sayBundle(from string) {
	_, b, _ := h.docs.current()
	h.o.Log.Info().Str("fingerprint", identity.Fingerprint(b)).Int("authorities", len(b.X509Authorities())).Str("from", from).
		Msg("trust bundle changed")
}

// followBundle asks the signer for each new bundle and tells it which one is in use here. The signer withdraws an old CA
// only when all have taken the new one, so what is in use is reported at once when it changes.
func (h *Holder) followBundle(ctx context.Context) error {
	failures := 0
	for h.docs.wait(ctx) {
		began := time.Now()
		err := h.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.health.bundle.hear(err)
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
func (h *Holder) poll(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	_, b, _ := h.docs.current()
	after, uses := identity.Fingerprint(b), h.uses()
	news := make(chan struct{})
	go func() { // ends with ctx, which ends when poll returns
		for {
			_, _, documents := h.docs.current()
			changed := h.o.InUse.Changed()
			if h.uses() != uses { // the signer waits with a rotation for it
				close(news)
				stop()
				return
			}
			select {
			case <-documents:
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	got, err := h.signer.Bundle(ctx, after, uses)
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
	took, err := h.docs.takeBundle(got)
	if took {
		h.sayBundle("signer")
	}
	return err
}

func (h *Holder) uses() client.Uses {
	return client.Uses{Bundle: h.o.InUse.Bundle(), Leaf: h.o.InUse.Certificate()}
}

func fingerprintOf(b *spiffebundle.Bundle) string {
	if b == nil {
		return ""
	}
	return identity.Fingerprint(b)
}

func versionOf(c *Certificate) string {
	if c == nil {
		return ""
	}
	return c.Version()
}
