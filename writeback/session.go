package writeback

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/heddle-mesh/heddle/model"
)

// session is one time that a Writer writes.
type session struct {
	*Writer
	queue    workqueue.TypedRateLimitingInterface[model.Key]
	limit    *rate.Limiter
	policies cache.Store
	informer cache.Controller
	events   record.EventRecorder
	last     map[model.Key]written
}

// written is what was last written of a ConfigMap, and when.
type written struct {
	uid    string
	status Status
	at     time.Time
}

func newSession(w *Writer) *session {
	s := &session{
		Writer: w, last: map[model.Key]written{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[model.Key](time.Second, time.Minute)),
		limit: rate.NewLimiter(rate.Limit(w.options.Rate), max(1, int(5*w.options.Rate))),
	}
	labelled := func(o *metav1.ListOptions) { o.LabelSelector = model.PolicyLabel + "=true" }
	look := func(o any) {
		if c, ok := o.(*corev1.ConfigMap); ok {
			s.queue.Add(model.Key{Namespace: c.Namespace, Name: c.Name})
		}
	}
	s.policies, s.informer = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(w.options.Client.CoreV1().RESTClient(), "configmaps", metav1.NamespaceAll, labelled),
		ObjectType:    &corev1.ConfigMap{},
		Handler:       cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, now any) { look(now) }},
		Transform:     func(o any) (any, error) { return thin(o), nil },
	})
	return s
}

// thin leaves of a policy what the writer looks at: the texts are in memory once already, in the mesh.
func thin(o any) any {
	c, ok := o.(*corev1.ConfigMap)
	if !ok {
		return o
	}
	t := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion, Annotations: map[string]string{}},
		Data:       map[string]string{},
	}
	for _, key := range []string{AcceptedKey, MessageKey, HashKey} {
		if value, ok := c.Annotations[key]; ok {
			t.Annotations[key] = value
		}
	}
	for key := range c.Data {
		t.Data[key] = ""
	}
	return t
}

// sync writes the status of one ConfigMap if it differs.
func (s *session) sync(ctx context.Context, key model.Key) error {
	o, there, err := s.policies.GetByKey(key.String())
	if err != nil || !there {
		delete(s.last, key)
		return err
	}
	c := o.(*corev1.ConfigMap)
	want, known := s.wanted(c)
	if !known || equal(c, want) {
		return nil
	}
	last := s.last[key]
	told := last.uid == string(c.UID) && last.status == want
	if wait := s.options.Again - time.Since(last.at); told && wait > 0 {
		s.queue.AddAfter(key, wait) // its watch is behind, or somebody undoes what we write
		return nil
	}
	if err := s.limit.Wait(ctx); err != nil {
		return err
	}
	switch err := s.write(ctx, c, want); {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // it is gone, or another one by now
	case err != nil:
		return fmt.Errorf("write the status of ConfigMap %s: %w", key, err)
	}
	s.last[key] = written{string(c.UID), want, time.Now()}
	if !told {
		s.event(c, want)
	}
	return nil
}

func equal(c *corev1.ConfigMap, want Status) bool {
	for key, value := range want.Annotations() {
		if now, ok := c.Annotations[key]; !ok || now != value {
			return false
		}
	}
	return true
}

// write applies the annotations. With its UID it is this ConfigMap and none of its name that was made since.
func (s *session) write(ctx context.Context, c *corev1.ConfigMap, want Status) error {
	apply := applycorev1.ConfigMap(c.Name, c.Namespace).WithUID(c.UID).WithAnnotations(want.Annotations())
	_, err := s.options.Client.CoreV1().ConfigMaps(c.Namespace).Apply(ctx, apply, metav1.ApplyOptions{FieldManager: Manager, Force: true})
	return err
}

// maxEvent is the longest message that an Event may have, in bytes.
const maxEvent = 1024

func (s *session) event(c *corev1.ConfigMap, now Status) {
	kind := corev1.EventTypeNormal
	if !now.Accepted {
		kind = corev1.EventTypeWarning
	}
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: c.Namespace, Name: c.Name, UID: c.UID}
	s.events.Event(about, kind, string(now.Reason), clip(now.Message, maxEvent))
}

// record begins to write Events; what it gives ends that.
func (s *session) record(ctx context.Context) (stop func()) {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: s.options.Client.CoreV1().Events("")})
	s.events = b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "heddle"})
	return b.Shutdown
}
