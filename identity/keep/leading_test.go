package keep

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

// memory is a store that does what a test says, for time that a bubble counts.
type memory struct {
	mu      sync.Mutex
	kept    stored
	fault   error            // of reading
	refuses map[string]error // of copying, by namespace
	copies  map[string]int   // tries, by namespace
	expired bool             // somebody else may lead
	leading chan bool        // the election's outcomes
}

func newMemory() *memory {
	return &memory{leading: make(chan bool), refuses: map[string]error{}, copies: map[string]int{}}
}

func (m *memory) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *memory) read(context.Context) (stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, m.fault
}

func (m *memory) writeCA(_ context.Context, _ stored, text []byte) error {
	m.with(func() { m.kept.ca = text })
	return nil
}

func (m *memory) writeTrust(_ context.Context, _ stored, t trust) error {
	m.with(func() { m.kept.trust = t })
	return nil
}

func (m *memory) forgetTrust(context.Context, stored) error { return errors.New("not in these tests") }

func (m *memory) lead(ctx context.Context, work func(ctx context.Context)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.leading:
		}
		leading, end := context.WithCancel(ctx)
		worked := make(chan struct{})
		go func() {
			defer close(worked)
			work(leading)
		}()
		select {
		case <-ctx.Done():
		case <-m.leading:
		}
		end()
		<-worked
	}
}

func (m *memory) copyTrust(_ context.Context, _ trust, namespaces []string) map[string]error {
	m.mu.Lock()
	defer m.mu.Unlock()
	failed := map[string]error{}
	for _, name := range namespaces {
		m.copies[name]++
		if err := m.refuses[name]; err != nil {
			failed[name] = err
		}
	}
	return failed
}

func (m *memory) holds() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.expired
}

func (m *memory) alone() bool { return false }

func (m *memory) caName() string    { return "the CA of the test" }
func (m *memory) trustName() string { return "the bundle of the test" }

// inBubble runs a keeper in time that passes by itself.
func inBubble(t *testing.T, change func(*Options), test func(*testing.T, *memory, *Keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		o := options(t, &proxies{})
		o.Every = 5 * time.Second
		if change != nil {
			change(&o)
		}
		k := newKeeper(o, m)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		test(t, m, k)
		stop()
		do(t, <-ended)
	})
}

func TestANewLeaderSignsNothingBeforeItHasReadTheCA(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, m *memory, k *Keeper) {
		m.leading <- true
		synctest.Wait()
		do(t, k.Ready())
		m.leading <- false
		synctest.Wait()
		time.Sleep(10 * time.Second) // it follows
		if CodeOf(k.Ready()) != NotLeading {
			t.Errorf("as a follower: %v", k.Ready())
		}

		m.with(func() { m.fault = errors.New("the store does not answer") })
		m.leading <- true
		time.Sleep(time.Minute)
		if CodeOf(k.Ready()) != NotLeading || k.Progress().Leading {
			t.Errorf("it signs with what it saw as a follower: %v", k.Ready())
		}
		m.with(func() { m.fault = nil })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		do(t, k.Ready())
		if since := k.leadingSince(); time.Since(since) > 5*time.Second {
			t.Errorf("it counts what sidecars did since %v, before it served", since)
		}

		m.with(func() { m.fault = errors.New("the store does not answer") })
		time.Sleep(time.Minute)
		do(t, k.Ready()) // nobody else can lead, so nobody else has changed it
		m.with(func() { m.expired = true })
		if CodeOf(k.Ready()) != NotLeading {
			t.Errorf("it signs while another process may lead: %v", k.Ready())
		}
	})
}

func TestAProcessWithAFaultSignsNotEvenForItself(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, m *memory, k *Keeper) {
		m.leading <- true
		synctest.Wait()
		m.leading <- false
		time.Sleep(10 * time.Second)
		if _, err := k.Issuer(); err != nil || CodeOf(k.Ready()) != NotLeading {
			t.Errorf("a follower has no certificate for its own door: %v; %v", err, k.Ready())
		}
		m.with(func() { m.kept.ca = nil })
		time.Sleep(10 * time.Second)
		if _, err := k.Issuer(); CodeOf(err) != Missing {
			t.Errorf("with the CA that is gone it signs: %v", err)
		}
		if _, err := k.Tokens(); CodeOf(err) != Missing {
			t.Errorf("with the CA that is gone it signs tokens: %v", err)
		}
		if _, _, err := k.Bundle(); err != nil {
			t.Errorf("peers cannot be verified any more: %v", err)
		}
	})
}

func TestARotationGivesTheOtherReplicasTimeToReadEachStep(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, m *memory, k *Keeper) {
		m.leading <- true
		synctest.Wait()
		other := newKeeper(Options{TrustDomain: domain(t), Every: 5 * time.Second, Log: k.options.Log}, reader{newMemory(), m})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- other.Run(ctx) }()
		synctest.Wait()
		first := k.Progress()
		time.Sleep(time.Second)
		do(t, k.Rotate(t.Context(), nil))
		for range 120 {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			ours, theirs := k.Progress(), other.Progress()
			if ours.Signer != theirs.Signer && !slices.Contains(theirs.Authority, ours.Signer) {
				t.Fatalf("%s signs, and another replica does not trust it:\n%+v\n%+v", ours.Signer, ours, theirs)
			}
			if !slices.Contains(ours.Authority, theirs.Signer) {
				t.Fatalf("another replica's door is of %s, which nobody trusts any more:\n%+v\n%+v", theirs.Signer, ours, theirs)
			}
		}
		if at := k.Progress(); at.Phase != identity.Steady || at.Signer == first.Signer {
			t.Errorf("the rotation has not ended: %+v", at)
		}
		stop()
		do(t, <-ended)
	})
}

// reader is a replica's view of what another one keeps.
type reader struct {
	*memory
	of *memory
}

func (r reader) read(ctx context.Context) (stored, error) { return r.of.read(ctx) }

func TestACAThatExpiresDuringItsRotationStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, p := newMemory(), &proxies{}
		o := options(t, p)
		o.Every = 5 * time.Second
		o.First = func(now time.Time) (*identity.Authority, error) {
			return identity.NewRoot(o.TrustDomain, now, 20*time.Minute)
		}
		// A sidecar keeps the leaf of the old CA, and so the rotation where it is.
		run := func() (*Keeper, func()) {
			k := newKeeper(o, m)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- k.Run(ctx) }()
			m.leading <- true
			synctest.Wait()
			do(t, k.Ready())
			return k, func() { stop(); do(t, <-ended) }
		}
		k, stop := run()
		old := k.Progress().Signer
		p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: "none", Authority: old, Issued: old, LeafExpires: time.Now().Add(time.Hour)})
		do(t, k.Rotate(t.Context(), nil))
		time.Sleep(time.Minute)
		both := k.Progress().Generation
		p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: both, Authority: old, Issued: old, LeafExpires: time.Now().Add(time.Hour)})
		time.Sleep(time.Minute)
		if at := k.Progress(); at.Phase != identity.Signing || at.Signer == old {
			t.Fatalf("%+v", at)
		}
		for _, d := range []time.Duration{17*time.Minute + 30*time.Second, time.Minute} { // half a minute is left; none is
			time.Sleep(d)
			stop()
			k, stop = run()
			issuer := must[identity.Issuer](t)(k.Issuer())
			if a, ok := issuer.(*identity.Authority); !ok || a.Name() == old {
				t.Errorf("%v signs", issuer)
			}
		}
		late := must[*identity.Authority](t)(identity.NewRoot(o.TrustDomain, time.Now().Add(-2*time.Hour), time.Hour))
		if err := k.Rotate(t.Context(), late); identity.CodeOf(err) != identity.CodeAuthority {
			t.Errorf("an expired CA was taken for the next one: %v", err)
		}
		stop()
	})
}
