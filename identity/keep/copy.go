package keep

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

const (
	// recopy is how often copies of the bundle are written again though nothing changed, for those that somebody changed.
	recopy = time.Minute
	// copyPatience is how long a rotation waits for copies that cannot be written, from when their bundle is served.
	copyPatience = 2 * time.Minute
	// namedInLog is how many namespaces one line of the log names.
	namedInLog = 10
)

// copied is what was copied into which namespaces, and when.
type copied struct {
	fingerprint string
	namespaces  []string         // that were to have it
	failed      map[string]error // those of them that do not have it, and why
	at          time.Time        // when all of them were written last
}

// copy keeps the bundle current where sidecars read it when they start. What fails is tried again in the next round.
func (k *Keeper) copy(ctx context.Context, t trust) {
	if k.options.Namespaces == nil {
		return
	}
	now, namespaces := k.options.Now(), k.options.Namespaces()
	due, was := namespaces, k.copied
	if was.fingerprint == t.Fingerprint && slices.Equal(was.namespaces, namespaces) && now.Before(was.at.Add(recopy)) {
		if len(was.failed) == 0 {
			return
		}
		due, now = slices.Sorted(maps.Keys(was.failed)), was.at
	}
	failed := k.store.copyTrust(ctx, t, due)
	if ctx.Err() != nil {
		return
	}
	k.copied = copied{t.Fingerprint, slices.Clone(namespaces), failed, now}
	names := slices.Sorted(maps.Keys(failed))
	tried := k.options.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.uncopied
	k.uncopied = map[string]Uncopied{}
	for _, name := range names {
		u := Uncopied{Namespace: name, Since: tried, Reason: copyReason(failed[name]), Error: failed[name].Error()}
		k.failures.WithLabelValues(u.Reason).Inc()
		if was, ok := before[name]; ok {
			u.Since = was.Since
		}
		k.uncopied[name] = u
	}
	if slices.Equal(slices.Sorted(maps.Keys(before)), names) {
		return
	}
	if len(names) == 0 {
		k.options.Log.Info().Msg("the trust bundle is in all namespaces again")
		return
	}
	e := k.options.Log.Warn().Int("namespaces", len(names))
	for _, name := range names[:min(len(names), namedInLog)] {
		e = e.AnErr(name, failed[name])
	}
	e.Msg("could not copy the trust bundle everywhere; sidecars that start there wait for it")
}

// waitForCopies gives the copies of the present bundle a while: a sidecar that starts anew must be able to verify whoever
// signs. Not for ever, for whoever may write in one namespace can keep its copy from being written. Those that run are
// waited for by what they have taken themselves, so it costs only those that start in that namespace.
func (k *Keeper) waitForCopies(now time.Time) []identity.Wait {
	until := k.published.Add(copyPatience)
	if len(k.copied.failed) == 0 || !now.Before(until) {
		return nil
	}
	names := slices.Sorted(maps.Keys(k.copied.failed))
	return []identity.Wait{{For: "copies of the trust bundle in namespaces", Proxies: names, Until: until}}
}

// waitForFollowers gives the other replicas time to read twice what is stored: where they have doors of their own, these
// are in nobody's observation. In it each takes the bundle, by which it verifies sidecars, and has a certificate of who signs for its own door.
func (k *Keeper) waitForFollowers(now time.Time) []identity.Wait {
	until := k.published.Add(2 * k.options.Every)
	if k.store.alone() || !now.Before(until) {
		return nil
	}
	return []identity.Wait{{For: "the other replicas to read the CA", Until: until}}
}
