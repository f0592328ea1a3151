package keep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// Options say what is kept. TrustDomain is required.
type Options struct {
	TrustDomain spiffeid.TrustDomain
	// First makes the first CA, where there never was one; default: one of Upstream, or a new root. Give an intermediate of an offline root
	// here (identity.LoadAuthority).
	First func(now time.Time) (*identity.Authority, error)
	// Given says where First finds a given one, for people; empty: it makes one. Where there is a CA already it is not asked.
	Given string
	// Upstream signs the CAs that are made here, at the beginning, when half of the last one's life is over, and when somebody
	// orders a rotation to none in particular; nil: each is a root of its own.
	Upstream Upstream
	Limits   identity.Limits // the longest lives of what is signed
	// Observe says what is known of the proxies; since is when this process became the one that serves, and what it
	// saw before does not count. Without it no rotation goes on.
	Observe func(now, since time.Time) identity.Observation
	// Namespaces lists those with sidecars; nil for none.
	Namespaces func() []string
	Registry   prometheus.Registerer // nil: nobody reads the metrics
	Every      time.Duration         // how often to go round, if nothing calls for it; default 5 s
	Now        func() time.Time      // default time.Now
	Log        zerolog.Logger
}

// Keeper keeps a CA. It is safe for concurrent use.
type Keeper struct {
	options Options
	store   store
	wake    chan struct{}
	orders  chan order

	mu      sync.Mutex
	ca      *ca // the last good one
	fault   error
	since   time.Time // when this process began to serve as the leader; zero: it does not
	waits   []identity.Wait
	gaveUp  bool          // somebody called Recover here
	changed chan struct{} // closed when ca's bundle is no longer the current one
	// uncopied are the namespaces without the current bundle, by name.
	uncopied map[string]Uncopied
	// failures counts tries to write it there.
	failures *prometheus.CounterVec

	// Of the goroutine that goes round:
	text    string // what was read last and is good
	parsed  *ca    // what that says
	copied  copied
	tried   time.Time // to get the upstream's next CA
	overdue string    // why there is none
	given   bool      // it was said what became of Options.Given
	// published is since when the state that was entered then has been served by us.
	published, entered time.Time
}

// order is what a person asks for. It is carried out by the one writer.
type order struct {
	change func(c *ca, now time.Time) (*ca, error)
	done   chan error
}

func newKeeper(o Options, s store) *Keeper {
	if o.Every == 0 {
		o.Every = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &Keeper{
		options: o, store: s, wake: make(chan struct{}, 1), orders: make(chan order), changed: make(chan struct{}),
		fault: &Fault{Code: Unavailable, Message: "the CA has not been read yet; ask again"},
	}
	k.failures = k.newFailures(o.Registry)
	return k
}

// Run keeps the CA until ctx ends, as the one writer whenever it may be.
func (k *Keeper) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer stop()
	rounds := make(chan struct{}, 1) // one goes round at a time
	watcher.Go(func() { k.follow(watching, rounds) })
	return k.store.lead(ctx, func(ctx context.Context) {
		select {
		case rounds <- struct{}{}:
			defer func() { <-rounds }()
		case <-ctx.Done():
			return
		}
		k.drive(ctx)
	})
}

// follow reads the CA from time to time while another process leads.
func (k *Keeper) follow(ctx context.Context, rounds chan struct{}) {
	tick := time.NewTicker(k.options.Every)
	defer tick.Stop()
	for {
		select {
		case rounds <- struct{}{}:
			k.look(ctx)
			<-rounds
		default: // we lead
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look loads what is stored, and writes nothing.
func (k *Keeper) look(ctx context.Context) {
	was, err := k.store.read(ctx)
	if err != nil {
		k.unread(ctx, err)
		return
	}
	c, err := k.check(was)
	if err == nil && c == nil {
		err = &Fault{Code: Unavailable, Message: "there is no CA yet; the leader will make one"}
	}
	if err != nil {
		k.fail(err)
		return
	}
	k.serve(c)
}

// drive is the one writer's work.
func (k *Keeper) drive(ctx context.Context) {
	defer k.endLeading()
	k.entered = time.Time{} // another process may have served meanwhile
	tick := time.NewTicker(k.options.Every)
	defer tick.Stop()
	const most = 8 // rounds without a pause; a whole rotation takes six, if nobody has to be waited for
	for n := 1; ; n++ {
		again, err := k.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errChanged):
			k.options.Log.Info().Err(err).Msg("the CA was written by another process; reading it again")
		case err != nil:
			k.unread(ctx, err)
		}
		if again && err == nil && n < most {
			continue
		}
		n = 0
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.wake:
		case o := <-k.orders:
			o.done <- k.obey(ctx, o)
		}
	}
}

// round does what is to be done now, from the beginning. It says whether there is more to do at once.
func (k *Keeper) round(ctx context.Context) (again bool, err error) {
	was, err := k.store.read(ctx)
	if err != nil {
		return false, err
	}
	c, err := k.check(was)
	if err != nil {
		k.fail(err)
		return false, nil
	}
	if c == nil {
		return true, k.create(ctx, was)
	}
	t, err := c.trust()
	if err != nil {
		return false, err
	}
	if was.trust.Fingerprint != t.Fingerprint || string(was.trust.Bundle) != string(t.Bundle) {
		return true, k.store.writeTrust(ctx, was, t)
	}
	k.unused()
	k.serve(c)
	k.beginLeading(ctx)
	if !k.entered.Equal(c.state.Entered) {
		k.entered, k.published = c.state.Entered, k.options.Now()
		if k.published.Before(k.entered) { // by the clock of the leader before us
			k.published = k.entered
		}
	}
	k.copy(ctx, t)
	return k.next(ctx, was, c)
}

// create makes the first CA.
func (k *Keeper) create(ctx context.Context, was stored) error {
	now := k.options.Now()
	var a *identity.Authority
	var err error
	if k.options.First != nil {
		a, err = k.options.First(now)
	} else {
		a, err = another(ctx, k.options.Upstream, k.options.TrustDomain, now)
	}
	if err != nil {
		return fmt.Errorf("make the first CA: %w", err)
	}
	if err := a.Check(now); err != nil {
		return fmt.Errorf("make the first CA: %w", err)
	}
	c, err := first(a, now)
	if err != nil {
		return fmt.Errorf("make the first CA: %w", err)
	}
	text, err := c.encode()
	if err != nil {
		return fmt.Errorf("make the first CA: %w", err)
	}
	if err := k.store.writeCA(ctx, was, text); err != nil {
		return err
	}
	k.given = true
	e := k.options.Log.Info().Str("authority", a.Name()).Time("expires", a.Expires()).Str("stored", k.store.caName())
	if k.options.Given != "" {
		e.Str("given", k.options.Given).Msg("took the given CA for the first one; keep a backup of it")
		return nil
	}
	e.Msg("made the first CA; keep a backup of it")
	return nil
}

// unused says once that a CA is given where there is one already: who gives it may think that it signs.
func (k *Keeper) unused() {
	if k.options.Given != "" && !k.given {
		k.given = true
		k.options.Log.Info().Str("given", k.options.Given).
			Msg("there is a CA already, so the given one is not read; heddle identity rotate moves to another")
	}
}

// next moves the rotation on, if what proxies have taken allows it.
func (k *Keeper) next(ctx context.Context, was stored, c *ca) (again bool, err error) {
	if c.state.Phase == identity.Steady {
		k.wait(nil)
		return k.renew(ctx, was, c)
	}
	if k.options.Observe == nil {
		k.wait(nil)
		return false, nil
	}
	now := k.options.Now()
	o := k.options.Observe(now, k.leadingSince())
	o.Now, o.Published, o.Limits = now, k.published, k.options.Limits
	state, waits := c.state.Next(o)
	if state.Phase != c.state.Phase {
		if waits = append(k.waitForCopies(now), k.waitForFollowers(now)...); len(waits) > 0 {
			state = c.state
		}
	}
	k.wait(waits)
	if state == c.state {
		return false, nil
	}
	moved, err := c.moved(state)
	if err != nil {
		return false, fmt.Errorf("move the rotation on to phase %s: %w", state.Phase, err)
	}
	if state.Phase == c.state.Phase { // only lives have grown
		moved.before = c.before
		return false, k.save(ctx, was, moved)
	}
	k.options.Log.Info().Str("from", string(c.state.Phase)).Str("to", string(state.Phase)).Str("signer", state.Signer()).Msg("the rotation of the CA goes on")
	return true, k.save(ctx, was, moved)
}

func (k *Keeper) save(ctx context.Context, was stored, c *ca) error {
	text, err := c.encode()
	if err != nil {
		return err
	}
	return k.store.writeCA(ctx, was, text)
}

// check holds what was read against itself. It gives nothing where there never was a CA.
func (k *Keeper) check(was stored) (*ca, error) {
	switch {
	case was.ca == nil && was.trust.Fingerprint == "" && !k.remembers():
		return nil, nil
	case was.ca == nil:
		return nil, missing(k.store)
	}
	c := k.parsed
	if c == nil || string(was.ca) != k.text {
		var err error
		if c, err = decode(k.options.TrustDomain, was.ca, k.options.Now()); err != nil {
			return nil, corrupt(k.store, err)
		}
	}
	if f := was.trust.Fingerprint; f != "" && f != c.state.Bundle() && f != c.before {
		return nil, mismatch(k.store)
	}
	k.text, k.parsed = string(was.ca), c // authorities stay the same ones while nothing changes
	return c, nil
}

// obey carries out an order.
func (k *Keeper) obey(ctx context.Context, o order) error {
	was, err := k.store.read(ctx)
	if err != nil {
		return err
	}
	c, err := k.check(was)
	if err != nil {
		return err
	}
	if c == nil || was.trust.Fingerprint != c.state.Bundle() {
		return errors.New("the last change of the CA is not finished yet; ask again in a few seconds")
	}
	changed, err := o.change(c, k.options.Now())
	if err != nil {
		return err
	}
	return k.save(ctx, was, changed)
}
