package attest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// afterGrace is how long after its grace period a deleted pod still counts: the API server's own leeway for the tokens
// that are bound to it.
const afterGrace = time.Minute

// PodWatchOptions say which pods to watch.
type PodWatchOptions struct {
	Client rest.Interface // of core/v1: client-go's CoreV1().RESTClient()
	Label  string         // that a pod with a sidecar carries with the value "true"
	// ControlPlane is the NAMESPACE/ACCOUNT of our own pods that have an identity from here without a sidecar; empty for
	// none.
	ControlPlane string
	// Grown is called when a namespace has its first pod with a sidecar; it must not block. May be nil.
	Grown func()
	Now   func() time.Time // default time.Now
}

// PodWatch knows all pods of a cluster, as little of each as attestation asks. An API server that goes away changes
// nothing: what was known stays.
type PodWatch struct {
	options PodWatchOptions
	synced  chan struct{}

	mu     sync.RWMutex
	pods   map[types.NamespacedName]podFacts
	counts map[string]int // meshed pods, by namespace
}

type podFacts struct {
	Pod
	deleted time.Time // the end of its grace period, zero if nobody deleted it
	own     bool      // it is one of the control plane's
	started bool      // a container of it has run, so that it may have asked for an identity
}

var _ Pods = (*PodWatch)(nil)

// NewPodWatch prepares to watch; nothing is sent before Run.
func NewPodWatch(o PodWatchOptions) *PodWatch {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &PodWatch{options: o, synced: make(chan struct{}), pods: map[types.NamespacedName]podFacts{}, counts: map[string]int{}}
}

// Synced is closed when every pod that was there at the start is known. Before that, nobody should be attested.
func (w *PodWatch) Synced() <-chan struct{} { return w.synced }

// Run watches until ctx ends. What goes wrong is tried again; client-go logs it.
func (w *PodWatch) Run(ctx context.Context) error {
	source := cache.NewListWatchFromClient(w.options.Client, "pods", metav1.NamespaceAll, fields.Everything())
	// Shorter than client-go's own pause of up to 30 s: a pod that starts after an outage waits for it.
	pause := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 2 * time.Second}
	r := cache.NewReflectorWithOptions(source, &corev1.Pod{}, podStore{w}, cache.ReflectorOptions{Name: "pods", Backoff: &pause})
	r.RunWithContext(ctx)
	return nil
}

// Pod gives what is known of a pod (Pods).
func (w *PodWatch) Pod(namespace, name string) (Pod, bool) {
	w.mu.RLock()
	f, ok := w.pods[types.NamespacedName{Namespace: namespace, Name: name}]
	w.mu.RUnlock()
	f.Gone = !f.deleted.IsZero() && w.options.Now().After(f.deleted.Add(afterGrace))
	return f.Pod, ok
}

// MeshedNamespaces lists the namespaces with a pod that has a sidecar, in order.
func (w *PodWatch) MeshedNamespaces() []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	names := make([]string, 0, len(w.counts))
	for name := range w.counts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// PodName names one pod, and no later one of the same name.
type PodName struct{ Namespace, Name, UID string }

// Started lists the pods with a sidecar, and those of the control plane, that may have asked for an identity and have not
// ended; known is false before all pods are.
func (w *PodWatch) Started() (list []PodName, known bool) {
	select {
	case <-w.synced:
	default:
		return nil, false
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	for key, f := range w.pods {
		if (f.Meshed || f.own) && f.started && !f.Finished {
			list = append(list, PodName{key.Namespace, key.Name, f.UID})
		}
	}
	return list, true
}

func (w *PodWatch) put(p *corev1.Pod) {
	f := podFacts{Pod: Pod{
		UID:      string(p.UID),
		Account:  p.Spec.ServiceAccountName,
		Node:     p.Spec.NodeName,
		Meshed:   p.Labels[w.options.Label] == "true",
		Finished: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}}
	if p.DeletionTimestamp != nil {
		f.deleted = p.DeletionTimestamp.Time
	}
	f.own = p.Namespace+"/"+p.Spec.ServiceAccountName == w.options.ControlPlane
	// A sidecar is an init container, and runs while the phase is still Pending.
	f.started = p.Status.Phase == corev1.PodRunning ||
		slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), hasRun)
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	w.drop(key)
	w.pods[key] = f
	if f.Meshed {
		if w.counts[p.Namespace]++; w.counts[p.Namespace] == 1 && w.options.Grown != nil {
			w.options.Grown()
		}
	}
}

func hasRun(s corev1.ContainerStatus) bool {
	return s.RestartCount > 0 || s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
}

func (w *PodWatch) drop(key types.NamespacedName) {
	if w.pods[key].Meshed {
		if w.counts[key.Namespace]--; w.counts[key.Namespace] == 0 {
			delete(w.counts, key.Namespace)
		}
	}
	delete(w.pods, key)
}

// podStore is where the reflector puts pods (cache.ReflectorStore).
type podStore struct{ watch *PodWatch }

func (s podStore) Add(obj any) error { return s.Update(obj) }

func (s podStore) Update(obj any) error {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("watch pods: got a %T", obj)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.put(p)
	return nil
}

func (s podStore) Delete(obj any) error {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("watch pods: a %T was deleted", obj)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.drop(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	return nil
}

func (s podStore) Replace(objs []any, _ string) error {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	clear(s.watch.pods)
	clear(s.watch.counts)
	for _, obj := range objs {
		p, ok := obj.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("list pods: got a %T", obj)
		}
		s.watch.put(p)
	}
	select {
	case <-s.watch.synced:
	default:
		close(s.watch.synced)
	}
	return nil
}

func (s podStore) Resync() error { return nil }
