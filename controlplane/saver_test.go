package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// slow is a keeper that answers nothing before its context has ended.
type slow struct{ kept []model.SavedPolicy }

func (*slow) Load(ctx context.Context) ([]model.SavedPolicy, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *slow) Save(ctx context.Context, p model.SavedPolicy) error {
	if _, last := ctx.Deadline(); last {
		s.kept = append(s.kept, p)
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

// asked is a keeper that has an answer for each policy by its item, and notes what it is asked to keep.
type asked struct {
	mu      sync.Mutex
	answers map[string]error
	saved   []string // the item and the text of each
}

func (*asked) Load(context.Context) ([]model.SavedPolicy, error) { return nil, nil }

func (a *asked) Save(_ context.Context, p model.SavedPolicy) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saved = append(a.saved, p.Item+" "+p.Good)
	return a.answers[p.Item]
}

// willing has it keep everything from now on.
func (a *asked) willing() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = nil
}

// took gives what a keeper was asked since the last time.
func (a *asked) took() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	saved := a.saved
	a.saved = nil
	return saved
}

// saving runs a saver in a bubble until the test ends. put hands it policies by item and text, and waits for what comes of it.
func saving(t *testing.T, k *asked, log *transcript.Buffer) (put func(texts ...string)) {
	s := newSaver(k, zerolog.New(log))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(texts ...string) {
		var all []model.SavedPolicy
		for _, text := range texts {
			item, good, _ := strings.Cut(text, " ")
			all = append(all, model.SavedPolicy{ConfigMap: model.Key{Namespace: "shop", Name: "p"}, UID: "u", Item: item, Good: good})
		}
		s.put(all)
		synctest.Wait()
	}
}

func (a *asked) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, a.took()); diff != "" {
		t.Errorf("%s it is asked to keep (-want +got):\n%s", when, diff)
	}
}

func TestOnlyThePolicyThatCouldNotBeKeptIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log transcript.Buffer
		k := &asked{answers: map[string]error{"b": errors.New("it is away")}}
		put := saving(t, k, &log)
		put("c 1", "a 1", "b 1")
		k.want(t, "at first", "a 1", "b 1", "c 1")
		if !strings.Contains(log.String(), `"policies":1`) {
			t.Errorf("it says: %s", log.String())
		}
		for range 3 {
			time.Sleep(retryAfter)
			synctest.Wait()
			k.want(t, "later", "b 1")
		}
		put("b 2", "c 2")
		time.Sleep(retryAfter)
		synctest.Wait()
		k.want(t, "with a newer version", "b 2", "c 2")
		k.willing()
		time.Sleep(retryAfter)
		synctest.Wait()
		k.want(t, "when it may be kept", "b 2")
		time.Sleep(time.Hour)
		k.want(t, "after that")
	})
}

func TestAPolicyThatIsTooLargeIsToldOnceAndNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log transcript.Buffer
		k := &asked{answers: map[string]error{"b": fmt.Errorf("keep b: %w", kube.ErrTooLarge)}}
		put := saving(t, k, &log)
		put("a 1", "b 1")
		k.want(t, "at first", "a 1", "b 1")
		time.Sleep(time.Hour)
		k.want(t, "later")
		if told := strings.Count(log.String(), "keep b: too large to be kept"); told != 1 {
			t.Errorf("it is told %d times: %s", told, log.String())
		}
		k.willing()
		put("b 2")
		k.want(t, "with a smaller version", "b 2")
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
