package writeback

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
)

// Manager is the field manager of the annotations.
const Manager = "heddle-status"

// Options say where a Writer writes.
type Options struct {
	// Client needs to list, watch and patch configmaps, and to create and patch events.
	Client kubernetes.Interface
	// Rate is how many ConfigMaps are written in a second, a few seconds' worth at once; default 10.
	Rate float64
	// Again is how soon the same status is written over what others have written in its place; default 30 s.
	Again time.Duration
	Log   zerolog.Logger
}

// Writer keeps the annotations of policy ConfigMaps at what the mesh says of them.
//
// It goes by levels: what is there is compared with what should be, whichever of the two has changed. Of what it writes it
// sees no more than that the two are equal, and no fact of the mesh depends on it; so there are no loops.
type Writer struct {
	options Options

	mu        sync.Mutex // guards what follows
	documents map[model.Key]map[string]mesh.PolicyStatus
	complete  bool
	changed   func(model.Key) // nil while nothing runs
}

// New makes a Writer; nothing is sent before Run.
func New(o Options) *Writer {
	if o.Rate == 0 {
		o.Rate = 10
	}
	if o.Again == 0 {
		o.Again = 30 * time.Second
	}
	return &Writer{options: o, documents: map[model.Key]map[string]mesh.PolicyStatus{}}
}

// Judged takes what became of documents. It does not block, and may be called while nothing runs.
func (w *Writer) Judged(changed []mesh.PolicyStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range changed {
		of := w.documents[s.ConfigMap]
		switch {
		case !s.Gone && of == nil:
			w.documents[s.ConfigMap] = map[string]mesh.PolicyStatus{s.Item: s}
		case !s.Gone:
			of[s.Item] = s
		default:
			if delete(of, s.Item); len(of) == 0 {
				delete(w.documents, s.ConfigMap)
			}
		}
		w.look(s.ConfigMap)
	}
}

// Complete says that the mesh is known: what was judged before may have lacked a Service that had not been listed yet, so
// nothing is written until then.
func (w *Writer) Complete() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complete = true
	for key := range w.documents {
		w.look(key)
	}
}

// look has a ConfigMap looked at. Its caller holds w.mu.
func (w *Writer) look(key model.Key) {
	if w.complete && w.changed != nil {
		w.changed(key)
	}
}

// tell sets whom to tell of what changed; nil for nobody.
func (w *Writer) tell(changed func(model.Key)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = changed
}

// wanted is what a ConfigMap's status should be, if that is known yet: of documents that the ConfigMap has now, the mesh
// may not have heard.
func (w *Writer) wanted(c *corev1.ConfigMap) (Status, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := w.documents[model.Key{Namespace: c.Namespace, Name: c.Name}]
	hasDocuments := slices.ContainsFunc(slices.Collect(maps.Keys(c.Data)), func(k string) bool { return strings.HasSuffix(k, ".yaml") })
	if !w.complete || hasDocuments != (len(of) > 0) {
		return Status{}, false
	}
	return Of(slices.Collect(maps.Values(of))), true
}

// Run writes until ctx ends, and nothing after it. It may be called again then: a replica that leads anew begins by
// comparing everything, and writes what differs.
func (w *Writer) Run(ctx context.Context) {
	s := newSession(w)
	defer context.AfterFunc(ctx, s.queue.ShutDown)()
	w.tell(s.queue.Add)
	defer w.tell(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { s.informer.RunWithContext(ctx) })
	stopEvents := s.record(ctx)
	defer stopEvents()
	for {
		key, done := s.queue.Get()
		if done {
			return
		}
		err := s.sync(ctx, key)
		s.queue.Done(key)
		switch {
		case err == nil:
			s.queue.Forget(key)
		case ctx.Err() == nil:
			w.options.Log.Warn().Err(err).Stringer("policy", key).Msg("the status of a policy is not written; trying again")
			s.queue.AddRateLimited(key)
		}
	}
}
