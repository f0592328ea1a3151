package controlplane

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// slow is a keeper that answers nothing before its context has ended.
type slow struct{ kept []model.SavedPolicy }

func (*slow) Load(ctx context.Context) ([]model.SavedPolicy, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *slow) Save(ctx context.Context, policies []model.SavedPolicy) error {
	if _, last := ctx.Deadline(); last {
		s.kept = append(s.kept, policies...)
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatIsBeingKeptWhenTheControlPlaneStopsIsKeptAndNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log transcript.Buffer
		keeper := &slow{}
		s := newSaver(keeper, zerolog.New(&log))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.run(ctx) }()
		policy := model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "p"}, Item: "traffic.yaml", Good: "kind: Traffic"}
		s.put([]model.SavedPolicy{policy})
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]model.SavedPolicy{policy}, keeper.kept); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if log.String() != "" {
			t.Errorf("it says: %s", log.String())
		}
	})
}

func TestAControlPlaneThatIsStoppedBeforeItBeganStopsWithoutFault(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := New(Options{Door: newDoor(t).Door, LastGood: &slow{}}).Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestAServerThatIsStoppedBeforeItServesEndsWithoutFault(t *testing.T) {
	p := New(Options{Door: newDoor(t).Door})
	server := p.server()
	if err := server.stop(time.Second); err != nil {
		t.Error(err)
	}
	if err := server.serve(p.options.Door.Listener); err != nil {
		t.Error(err)
	}
}
