package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heddle-mesh/heddle/model"
)

// Source hands on facts: first all there are, then one event with Synced, then what changes. It calls out from one
// goroutine, and waits for it. Run returns when ctx ends, or when the source cannot begin.
type Source interface {
	Run(ctx context.Context, out func([]model.Event)) error
}

// Delivery is one batch that was handed on, for metrics.
type Delivery struct {
	Events int
	Waited time.Duration // of the oldest event, from its arrival until it was handed on
}

// subject is what an event speaks of.
type subject struct {
	kind string
	key  model.Key
}

func (s subject) String() string {
	if s.key.Namespace == "" {
		return s.kind + " " + s.key.Name
	}
	return s.kind + " " + s.key.String()
}

// subjectOf names the object of an event; the zero subject for an event without a fact.
func subjectOf(e model.Event) subject {
	switch {
	case e.Service != nil:
		return subject{"Service", e.Service.Key}
	case e.Slice != nil:
		return subject{"EndpointSlice", e.Slice.Key}
	case e.Pod != nil:
		return subject{"Pod", e.Pod.Key}
	case e.Namespace != nil:
		return subject{"Namespace", model.Key{Name: e.Namespace.Name}}
	case e.Node != nil:
		return subject{"Node", model.Key{Name: e.Node.Name}}
	case e.Policy != nil:
		return subject{"ConfigMap", e.Policy.Key}
	}
	return subject{}
}

// eventOf converts an object. The event is empty for an object that the mesh has no use for.
func eventOf(obj runtime.Object) (e model.Event, err error) {
	switch o := obj.(type) {
	case *corev1.Service:
		e.Service, err = ServiceOf(o)
	case *discoveryv1.EndpointSlice:
		e.Slice, err = SliceOf(o)
	case *corev1.Pod:
		e.Pod, err = PodOf(o)
	case *corev1.Namespace:
		e.Namespace = NamespaceOf(o)
	case *corev1.Node:
		e.Node = NodeOf(o)
	case *corev1.ConfigMap:
		e.Policy = PolicyOf(o)
	default:
		err = fmt.Errorf("%T is no kind that the mesh reads", obj)
	}
	return e, err
}

// gone says that the fact of e is no more.
func gone(e model.Event) model.Event {
	e.Gone = true
	return e
}
