package keep

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func domain(t testing.TB) spiffeid.TrustDomain {
	return must[spiffeid.TrustDomain](t)(identity.ParseTrustDomain("cluster.local"))
}

func newRoot(t testing.TB) *identity.Authority {
	return must[*identity.Authority](t)(identity.NewRoot(domain(t), time.Now(), 0))
}

// proxies are what a test says that sidecars have.
type proxies struct {
	mu  sync.Mutex
	all []identity.ProxyObservation
}

func (p *proxies) set(all ...identity.ProxyObservation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = all
}

func (p *proxies) observe(now, _ time.Time) identity.Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := identity.Observation{Remembers: now.Add(-48 * time.Hour), Proxies: slices.Clone(p.all)}
	for i := range o.Proxies {
		o.Proxies[i].LastSeen, o.Proxies[i].Reported = now, now // they report all the time
	}
	return o
}

// options are such that a test need not wait for the next round.
func options(t testing.TB, p *proxies) Options {
	o := Options{
		TrustDomain: domain(t), Every: 10 * time.Millisecond,
		Limits: identity.Limits{Leaf: time.Hour, Token: time.Nanosecond, Slack: time.Nanosecond},
		Log:    zerolog.New(zerolog.NewTestWriter(t)),
	}
	if p != nil {
		o.Observe = p.observe
	}
	return o
}

// running is a keeper that runs until stop is called, or the test ends.
type running struct {
	*Keeper
	t    testing.TB
	stop func()
}

func start(t testing.TB, k *Keeper) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{k, t, stop}
}

func startIn(t testing.TB, dir string, p *proxies) *running {
	t.Helper()
	return start(t, must[*Keeper](t)(InDirectory(options(t, p), dir)))
}

// ready waits until the keeper signs, and gives the name of who does.
func (r *running) ready() string {
	r.t.Helper()
	eventually(r.t, "the keeper signs", func() bool { return r.Ready() == nil })
	return r.Progress().Signer
}

func (r *running) wantFault(want Code) {
	r.t.Helper()
	eventually(r.t, "fault "+string(want), func() bool { return CodeOf(r.Ready()) == want })
}

// phase waits until the rotation is there, with its bundle served.
func (r *running) phase(want identity.Phase) Progress {
	r.t.Helper()
	eventually(r.t, "phase "+string(want), func() bool { return r.Ready() == nil && r.Progress().Phase == want })
	return r.Progress()
}

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "ca") }

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
