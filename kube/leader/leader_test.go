package leader

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// replica is one of several; leads counts the works of it that run.
type replica struct {
	*Elector
	leads atomic.Int32
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, client *fake.Clientset, name string) *replica {
	t.Helper()
	e, err := New(Options{Leases: client.CoordinationV1(), Namespace: "heddle-system", Name: Writer, Identity: name, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &replica{Elector: e, stop: stop, ended: make(chan error, 1)}
	work := func(ctx context.Context) {
		r.leads.Add(1)
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond) // of the bubble: it has something to finish
		r.leads.Add(-1)
	}
	go func() { r.ended <- e.Run(ctx, work, work) }()
	return r
}

func (r *replica) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestAReplicaThatStopsHasEndedItsWorksBeforeTheNextLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		first := start(t, client, "a")
		time.Sleep(time.Second)
		second := start(t, client, "b")
		time.Sleep(time.Minute)
		if a, b := first.leads.Load(), second.leads.Load(); a != 2 || b != 0 || !first.Holds() || second.Holds() {
			t.Fatalf("while both run, %d works of the first run and %d of the second", a, b)
		}
		go first.end(t)
		for b := second.leads.Load(); b == 0; b = second.leads.Load() {
			time.Sleep(time.Millisecond)
		}
		if a := first.leads.Load(); a != 0 {
			t.Errorf("the second leads while %d works of the first run", a)
		}
		second.end(t)
	})
}

func TestWorksEndWhenTheLeaseCannotBeRenewedAndBeginAgainWhenItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var away atomic.Bool
		client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("away")
		})
		r := start(t, client, "a")
		time.Sleep(time.Minute)
		away.Store(true)
		time.Sleep(defaultDuration + time.Second) // the last renewal may be of this very moment
		if r.leads.Load() != 0 || r.Holds() {
			t.Errorf("without the API server for %v, %d works run", defaultDuration, r.leads.Load())
		}
		away.Store(false)
		time.Sleep(defaultDuration + 5*time.Second)
		if r.leads.Load() != 2 || !r.Holds() {
			t.Errorf("with the API server again, %d works run", r.leads.Load())
		}
		r.end(t)
	})
}
