package kube

import (
	"fmt"
	"reflect"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/heddle-mesh/heddle/model"
)

// mirror holds the facts of one kind of object and hands on how they change. It is the store behind a reflector, in
// the place where an informer keeps the objects themselves: what is held here are the very facts that the mesh uses,
// so that nothing is in memory twice. Only its reflector calls it.
type mirror struct {
	log    zerolog.Logger
	queue  *queue
	held   map[model.Key]model.Event
	synced bool
}

var _ cache.TransformingStore = (*mirror)(nil)

// record is an object on its way from the API server into a mirror.
type record struct {
	metav1.ObjectMeta // name and namespace only, for client-go's own stores
	event             model.Event
	err               error // why the object cannot be converted
}

func recordOf(obj any) *record {
	if r, done := obj.(*record); done {
		return r
	}
	o, ok := obj.(interface {
		runtime.Object
		metav1.Object
	})
	if !ok {
		return &record{err: fmt.Errorf("%T is no Kubernetes object", obj)}
	}
	r := &record{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}}
	r.event, r.err = eventOf(o)
	return r
}

// Transformer lets client-go hold records instead of objects while it receives the first listing.
func (m *mirror) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return recordOf(obj), nil }
}

// Add takes in an object that appeared.
func (m *mirror) Add(obj any) error { return m.Update(obj) }

// Update takes in an object that changed.
func (m *mirror) Update(obj any) error {
	m.queue.push(m.set(recordOf(obj))...)
	return nil
}

// Delete forgets an object.
func (m *mirror) Delete(obj any) error {
	m.queue.push(m.drop(keyOf(recordOf(obj)))...)
	return nil
}

// Replace takes in a whole listing: the first one, and one after each interruption, which is compared with what was
// known before it.
func (m *mirror) Replace(objs []any, _ string) error {
	var events []model.Event
	listed := make(map[model.Key]struct{}, len(objs))
	for _, obj := range objs {
		r := recordOf(obj)
		listed[keyOf(r)] = struct{}{}
		events = append(events, m.set(r)...)
	}
	for key := range m.held {
		if _, still := listed[key]; !still {
			events = append(events, m.drop(key)...)
		}
	}
	m.queue.push(events...)
	if !m.synced {
		m.synced = true
		m.queue.synced()
	}
	return nil
}

// Resync does nothing: facts are handed on when they change, not again and again.
func (m *mirror) Resync() error { return nil }

// set gives the events by which the fact of a record replaces the one held: none if they are equal.
func (m *mirror) set(r *record) []model.Event {
	key := keyOf(r)
	if r.err != nil {
		m.log.Error().Err(r.err).Msg("object cannot be read; what was known of it before stays")
		return nil
	}
	if subjectOf(r.event) == (subject{}) {
		return m.drop(key)
	}
	if reflect.DeepEqual(m.held[key], r.event) {
		return nil
	}
	m.held[key] = r.event
	return []model.Event{r.event}
}

func (m *mirror) drop(key model.Key) []model.Event {
	old, held := m.held[key]
	if !held {
		return nil
	}
	delete(m.held, key)
	return []model.Event{gone(old)}
}
