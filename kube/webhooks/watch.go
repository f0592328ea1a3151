package webhooks

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// Run watches both configurations until ctx ends. What goes wrong is tried again; client-go logs it.
func (t *Trust) Run(ctx context.Context) error {
	var watches sync.WaitGroup
	for _, k := range kinds() {
		watches.Go(func() {
			source := cache.NewListWatchFromClient(t.options.Client.AdmissionregistrationV1().RESTClient(), string(k), metav1.NamespaceAll,
				fields.OneTermEqualSelector(metav1.ObjectNameField, t.name(k)))
			pause := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 2 * time.Second}
			r := cache.NewReflectorWithOptions(source, example(k), store{t, k}, cache.ReflectorOptions{Name: string(k), Backoff: &pause})
			r.RunWithContext(ctx)
		})
	}
	watches.Go(func() { t.complain(ctx) })
	watches.Wait()
	return nil
}

// complain says it once when the API server lacks something for a while: client-go tells only debug logs that it may not
// watch, and one replica alone hears that it may not write.
func (t *Trust) complain(ctx context.Context) {
	tick := time.NewTicker(lateAfter / 2)
	defer tick.Stop()
	for late := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		pem, _ := t.options.CA()
		if pem == nil || t.Carries(pem) {
			late = 0
			continue
		}
		if late++; late == 2 {
			t.options.Log.Warn().Strs("configurations", []string{t.options.Injector, t.options.Policy}).
				Msg("the API server does not go by the current CA for our webhooks, or does not let us look; a rotation of the CA waits for it")
		}
	}
}

// store is where a reflector puts what it sees (cache.ReflectorStore).
type store struct {
	trust *Trust
	kind  kind
}

func (s store) Add(o any) error { return s.Update(o) }

func (s store) Update(o any) error { return s.put(o, func(map[kind]configuration) {}) }

func (s store) Delete(any) error {
	s.trust.saw(func(seen map[kind]configuration) { delete(seen, s.kind) })
	return nil
}

func (s store) Replace(all []any, _ string) error {
	first := func(seen map[kind]configuration) {
		delete(seen, s.kind)
		s.trust.synced[s.kind] = true
	}
	if len(all) == 0 {
		s.trust.saw(first)
		return nil
	}
	return s.put(all[0], first) // there is one of that name
}

// put takes an object in after what is to be done first, both at once.
func (s store) put(o any, first func(map[kind]configuration)) error {
	name, c, err := read(o)
	if err != nil {
		return err
	}
	s.trust.saw(func(seen map[kind]configuration) {
		first(seen)
		if name == s.trust.name(s.kind) {
			seen[s.kind] = c
		}
	})
	return nil
}

func (s store) Resync() error { return nil }

func (t *Trust) saw(change func(map[kind]configuration)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.seen)
	close(t.changed)
	t.changed = make(chan struct{})
}
