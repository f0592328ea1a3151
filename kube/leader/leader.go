// Package leader has one of several replicas do what two must not do at once: the one that holds a Lease.
//
//	e, err := leader.New(leader.Options{Leases: client.CoordinationV1(), Namespace: "heddle-system", Name: leader.Writer, Identity: pod})
//	err = e.Run(ctx, writer.Run, injector.Run) // each while this replica leads, until ctx ends
//
// What leads is told by its context when its time is over, and has ended before the Lease is given up, so that another
// replica begins after it. A process that stood still for a while works on before it hears that: whoever writes what
// must not be written late asks [Elector.Holds], or writes on the condition that what it read is still there.
package leader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Writer is the name of the Lease of the replica that writes status and webhook configurations.
const Writer = "heddle-writer"

const defaultDuration = 15 * time.Second

// Options say which Lease. All but Duration and Log are required. The Lease is made when it is first taken: that needs
// get, create and update on leases of its namespace.
type Options struct {
	Leases    coordinationv1.LeasesGetter // client.CoordinationV1()
	Namespace string
	Name      string
	Identity  string        // of this process among the replicas: its pod's name
	Duration  time.Duration // after which a leader that is silent is replaced; default 15 s
	Log       zerolog.Logger
}

// Elector takes part in one election. Make it with [New], then call Run once.
type Elector struct {
	options Options
	elector *leaderelection.LeaderElector
	led     func(leading context.Context) // set by Run; called, in a goroutine of its own, each time that the Lease is ours

	mu    sync.Mutex // held while works begin, and while those that stop wait for them
	works sync.WaitGroup
}

// New checks the options; nothing is sent before Run.
func New(o Options) (*Elector, error) {
	if o.Duration == 0 {
		o.Duration = defaultDuration
	}
	e := &Elector{options: o}
	var err error
	e.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: o.Name,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name},
			Client:     o.Leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
		},
		LeaseDuration: o.Duration,
		// When renewing fails for so long, giving the Lease up may take as long again before work hears of it: together
		// less than the others wait.
		RenewDeadline:   o.Duration * 2 / 5,
		RetryPeriod:     o.Duration * 2 / 15,
		ReleaseOnCancel: true,
		Callbacks:       leaderelection.LeaderCallbacks{OnStartedLeading: func(ctx context.Context) { e.led(ctx) }, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return nil, fmt.Errorf("take part in the election by Lease %s/%s: %w", o.Namespace, o.Name, err)
	}
	return e, nil
}

// Holds says whether nobody else can lead now. It goes by this process's own clock: the others wait from when they saw
// our last renewal, so not less long.
func (e *Elector) Holds() bool { return e.elector.IsLeader() && e.elector.Check(0) == nil }

// Run runs all works at once whenever this process leads, again and again until ctx ends. A work that ends by itself is
// not begun again before the next time that this process comes to lead. What goes wrong with the Lease is tried again.
func (e *Elector) Run(ctx context.Context, works ...func(ctx context.Context)) error {
	holding, release := context.WithCancel(context.WithoutCancel(ctx)) // ends after the works
	defer release()
	e.led = func(leading context.Context) { e.lead(ctx, leading, works) }
	stopping := context.AfterFunc(ctx, func() {
		e.mu.Lock() // no work begins from here on
		defer e.mu.Unlock()
		e.works.Wait()
		release()
	})
	defer stopping()
	for holding.Err() == nil {
		e.elector.Run(holding)
	}
	e.works.Wait()
	return nil
}

// lead runs the works until the Lease is lost or ctx, which is Run's, ends.
func (e *Elector) lead(ctx, leading context.Context, works []func(context.Context)) {
	e.mu.Lock()
	if ctx.Err() != nil {
		e.mu.Unlock()
		return
	}
	e.works.Add(1)
	e.mu.Unlock()
	defer e.works.Done()
	both, cancel := context.WithCancel(leading)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	e.options.Log.Info().Str("lease", e.options.Name).Msg("this replica leads")
	var all sync.WaitGroup
	for _, work := range works {
		all.Go(func() { work(both) })
	}
	all.Wait()
	e.options.Log.Info().Str("lease", e.options.Name).Msg("this replica does not lead any more")
}
