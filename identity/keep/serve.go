package keep

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

// Ready fails while this process must not sign: with a *Fault.
func (k *Keeper) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fault != nil:
		return k.fault
	case k.since.IsZero() || !k.store.holds():
		return &Fault{Code: NotLeading, Message: "another replica of the signer leads; ask again"}
	}
	return nil
}

// Issuer gives who signs certificates. It fails with a *Fault while there is one, even if another CA was read before. It
// does not ask who leads: a follower may sign for its own door, since it has read who signs, and learns soon if that
// changes (see Keeper.waitForFollowers). For anybody else ask [Keeper.Ready] too.
func (k *Keeper) Issuer() (identity.Issuer, error) {
	c, err := k.sound()
	if err != nil {
		return nil, err
	}
	return c.signer(), nil
}

// Tokens gives who signs JWT-SVIDs. It fails as Issuer does.
func (k *Keeper) Tokens() (identity.JWTSigner, error) {
	c, err := k.sound()
	if err != nil {
		return nil, err
	}
	return c.signer(), nil
}

// Bundle gives the trust bundle, with a channel that is closed when it, or who signs, is no longer the current one. A CA
// that went missing later changes nothing about it. It fails with a *Fault if no CA was ever read; the channel is closed
// when one is.
func (k *Keeper) Bundle() (*spiffebundle.Bundle, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca == nil {
		return nil, k.changed, k.fault
	}
	return k.ca.bundle, k.changed, nil
}

// Authorities are the one that signs and, in a rotation, the other one, in this order; none if no CA was ever read.
func (k *Keeper) Authorities() []*identity.Authority {
	c, err := k.last()
	if err != nil {
		return nil
	}
	all := []*identity.Authority{c.signer()}
	for name, a := range c.authorities {
		if name != c.state.Signer() {
			all = append(all, a)
		}
	}
	return all
}

func (k *Keeper) last() (*ca, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca == nil {
		return nil, k.fault
	}
	return k.ca, nil
}

// sound gives the CA unless something is wrong with it.
func (k *Keeper) sound() (*ca, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		return nil, k.fault
	}
	return k.ca, nil
}

// Progress is where the rotation stands, for people.
type Progress struct {
	Phase      identity.Phase `json:"phase"`
	Since      time.Time      `json:"since"`
	Signer     string         `json:"signer"`            // the name of the authority
	Waits      []string       `json:"waits,omitempty"`   // what it waits for
	Leading    bool           `json:"leading"`           // this process is the one that signs
	Fault      string         `json:"fault,omitempty"`   // why nothing is signed
	Expires    time.Time      `json:"expires"`           // the signing authority
	Authority  []string       `json:"trusted,omitempty"` // names of the authorities in the bundle
	Successor  string         `json:"successor,omitempty"`
	Generation string         `json:"bundle"` // the fingerprint of the bundle
	// Uncopied are the namespaces where it could not be written: sidecars that start there cannot, until it is.
	Uncopied []Uncopied `json:"uncopied,omitempty"`
}

// Uncopied is a namespace where the current trust bundle could not be written.
type Uncopied struct {
	Namespace string    `json:"namespace"`
	Since     time.Time `json:"since"`
	Reason    string    `json:"reason"` // CopyForbidden, CopyInvalid, CopyTimeout, CopyUnavailable or CopyOther
	Error     string    `json:"error"`  // of the last try
}

// Progress says where the rotation stands.
func (k *Keeper) Progress() Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := Progress{Leading: !k.since.IsZero(), Uncopied: slices.SortedFunc(maps.Values(k.uncopied), func(a, b Uncopied) int { return cmp.Compare(a.Namespace, b.Namespace) })}
	if k.fault != nil {
		p.Fault = k.fault.Error()
	}
	if k.ca == nil {
		return p
	}
	s := k.ca.state
	p.Phase, p.Since, p.Signer, p.Expires = s.Phase, s.Entered, s.Signer(), k.ca.signer().Expires()
	p.Authority, p.Successor, p.Generation = s.Trusted(), s.Successor.Authority, s.Bundle()
	for _, w := range k.waits {
		p.Waits = append(p.Waits, w.String())
	}
	return p
}

// Rotate begins to move to another authority, nil for one of the upstream, or without one a new root. It returns when that is stored; [Keeper.Progress]
// shows how it goes on. Only the leader does it.
func (k *Keeper) Rotate(ctx context.Context, next *identity.Authority) error {
	if err := k.Ready(); err != nil {
		return fmt.Errorf("rotate the CA: %w", err)
	}
	if next == nil {
		var err error
		if next, err = another(ctx, k.options.Upstream, k.options.TrustDomain, k.options.Now()); err != nil {
			return fmt.Errorf("rotate the CA: %w", err)
		}
	}
	return k.order(ctx, "rotate the CA", func(c *ca, now time.Time) (*ca, error) { return k.toward(c, next, now) })
}

// toward is the CA after the beginning of a rotation to another authority.
func (k *Keeper) toward(c *ca, next *identity.Authority, now time.Time) (*ca, error) {
	if err := next.Check(now); err != nil {
		return nil, err
	}
	both, err := identity.Merge(c.signer().Bundle(), next.Bundle())
	if err != nil {
		return nil, err
	}
	state, err := c.state.Begin(party(next), identity.Fingerprint(both), k.options.Limits, now)
	if err != nil {
		return nil, err
	}
	authorities := maps.Clone(c.authorities)
	authorities[next.Name()] = next
	return c.with(state, authorities)
}

// Abort turns a rotation back, while that is possible. Only the leader does it.
func (k *Keeper) Abort(ctx context.Context) error {
	return k.order(ctx, "abort the rotation of the CA", func(c *ca, now time.Time) (*ca, error) {
		state, err := c.state.Abort(now)
		if err != nil {
			return nil, err
		}
		return c.moved(state)
	})
}

func (k *Keeper) order(ctx context.Context, what string, change func(*ca, time.Time) (*ca, error)) error {
	if err := k.Ready(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	o := order{change, make(chan error, 1)}
	select {
	case k.orders <- o:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if err := <-o.done; err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Recover gives up a CA that is gone: it forgets the bundle that knows of it, so that a new root will be made. It
// refuses while there is something that may be the CA: delete that first, once you are sure. Other processes that have
// seen the old CA make no new one before they are restarted. See the package's documentation for what it costs.
func (k *Keeper) Recover(ctx context.Context) error {
	was, err := k.store.read(ctx)
	if err != nil {
		return fmt.Errorf("give up the CA: %w", err)
	}
	if was.ca != nil {
		return fmt.Errorf("give up the CA: it is there (%s); if it is of no use, delete it first", k.store.caName())
	}
	if was.trust.Fingerprint == "" {
		return nil // there was never one, or it was given up already
	}
	if err := k.store.forgetTrust(ctx, was); err != nil {
		return fmt.Errorf("give up the CA: %w", err)
	}
	k.mu.Lock()
	k.gaveUp = true
	k.mu.Unlock()
	k.options.Log.Warn().Str("bundle", was.trust.Fingerprint).Msg("gave up the CA; a new root will be made")
	k.Wake()
	return nil
}

// remembers says whether this process itself knows that there was a CA, though all that is stored is gone.
func (k *Keeper) remembers() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ca != nil && !k.gaveUp
}

// Wake lets the keeper go round soon: a namespace has its first sidecar, or a sidecar has taken a bundle.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) serve(c *ca) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil && CodeOf(k.fault) != Unavailable {
		k.options.Log.Info().Msg("the CA is there again")
	}
	if k.ca == nil || k.ca.state.Bundle() != c.state.Bundle() || k.ca.state.Signer() != c.state.Signer() {
		close(k.changed)
		k.changed = make(chan struct{})
	}
	k.ca, k.fault, k.gaveUp = c, nil, false
}

// fail stops signing.
func (k *Keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if CodeOf(err) != Unavailable && (k.fault == nil || k.fault.Error() != err.Error()) {
		k.options.Log.Error().Err(err).Msg("nothing is signed")
	}
	k.fault = err
}

// unread notes that the store did not answer. What was read before goes on.
func (k *Keeper) unread(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if CodeOf(err) != "" { // it did answer
		k.fail(err)
		return
	}
	k.options.Log.Warn().Err(err).Msg("could not read or write the CA; what was read before is used")
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca == nil && k.fault == nil || CodeOf(k.fault) == Unavailable {
		k.fault = &Fault{Code: Unavailable, Message: "the CA could not be read (" + k.store.caName() + "); it is tried again", cause: err}
	}
}

// beginLeading lets this process sign, now that it has read the CA as the leader: what it saw before that, as a follower
// or as the leader of an earlier time, another leader may have changed since.
func (k *Keeper) beginLeading(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.since.IsZero() && ctx.Err() == nil {
		k.since = k.options.Now()
	}
}

func (k *Keeper) endLeading() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.since, k.uncopied = time.Time{}, nil
}

func (k *Keeper) leadingSince() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since
}

func (k *Keeper) wait(waits []identity.Wait) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waits = waits
}
