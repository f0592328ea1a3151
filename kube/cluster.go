package kube

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/heddle-mesh/heddle/model"
)

// ClusterOptions say which cluster to watch.
type ClusterOptions struct {
	Config  *rest.Config // from ClientConfig
	Log     zerolog.Logger
	Observe func(Delivery) // called before each batch is handed on; may be nil
}

// Cluster is a Source that watches an API server. It stands on client-go's reflectors, the part of an informer that
// lists, watches, and lists again where a watch cannot be taken up; see mirror for the other part.
//
// An API server that goes away changes nothing: what was known stays, and when it is back only the difference is
// handed on.
type Cluster struct {
	options ClusterOptions
	client  kubernetes.Interface
	link    *link
	queue   *queue
	kinds   []kind
}

var _ Source = (*Cluster)(nil)

// kind is one kind of object to watch.
type kind struct {
	group, resource string
	example         runtime.Object
	client          rest.Interface
	selector        string // of labels
}

// NewCluster prepares to watch; nothing is sent before Run.
func NewCluster(o ClusterOptions) (*Cluster, error) {
	link := &link{log: o.Log}
	config := rest.CopyConfig(o.Config)
	config.Wrap(link.wrap)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of API server %s: %w", config.Host, err)
	}
	core, discovery := client.CoreV1().RESTClient(), client.DiscoveryV1().RESTClient()
	kinds := []kind{
		{"", "services", &corev1.Service{}, core, ""},
		{discoveryv1.GroupName, "endpointslices", &discoveryv1.EndpointSlice{}, discovery, ""},
		{"", "pods", &corev1.Pod{}, core, ""},
		{"", "namespaces", &corev1.Namespace{}, core, ""},
		{"", "nodes", &corev1.Node{}, core, ""},
		{"", "configmaps", &corev1.ConfigMap{}, core, model.PolicyLabel + "=true"},
	}
	return &Cluster{options: o, client: client, link: link, queue: newQueue(len(kinds)), kinds: kinds}, nil
}

// Unlimited gives a client of the same API server that has no limit of its own on requests, for whoever has another. Each
// has connections of its own: what one asks waits behind nothing that another asks.
func (c *Cluster) Unlimited() (kubernetes.Interface, error) {
	config := rest.CopyConfig(c.options.Config)
	config.QPS = -1
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext // as client-go's own
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of API server %s: %w", config.Host, err)
	}
	return client, nil
}

// Status says whether the API server answers.
func (c *Cluster) Status() Status {
	s := c.link.get()
	s.Queued = c.queue.len()
	return s
}

// Run watches until ctx ends. It fails if the API server refuses the credentials or a right that is needed before
// everything was listed once; what happens later is logged and tried again. Call it once.
func (c *Cluster) Run(ctx context.Context, out func([]model.Event)) error {
	ctx, cancel := context.WithCancel(LogLibrary(ctx, c.options.Log))
	defer cancel()
	failed := make(chan error, len(c.kinds))
	var reflectors sync.WaitGroup
	for _, k := range c.kinds {
		reflectors.Go(func() {
			if err := c.follow(ctx, k); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	c.queue.run(ctx, out, c.options.Observe)
	reflectors.Wait()
	close(failed)
	return <-failed // the first; nil if there is none
}

// backoff is how long to wait for an API server that does not answer: less long than client-go by itself, because
// a handful of replicas do it no harm, and what changed while it was away is wanted soon.
func backoff() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 2 * time.Second}
}

// follow keeps the facts of one kind current.
func (c *Cluster) follow(ctx context.Context, k kind) error {
	m := &mirror{log: c.options.Log, queue: c.queue, held: map[model.Key]model.Event{}}
	selected := func(o *metav1.ListOptions) { o.LabelSelector = k.selector }
	pause := backoff()
	logger := klog.FromContext(ctx)
	r := cache.NewReflectorWithOptions(
		cache.NewFilteredListWatchFromClient(k.client, k.resource, metav1.NamespaceAll, selected), k.example, m,
		cache.ReflectorOptions{Name: k.resource, Logger: &logger, Backoff: &pause})
	delay := backoff().DelayWithReset(clock.RealClock{}, 10*time.Second)
	for {
		err := r.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !m.synced && refused(err) && !c.link.returned():
			return c.explain(ctx, err)
		case refused(err):
			c.options.Log.Error().Err(err).Str("resource", k.resource).
				Msg("API server no longer lets us watch; everything known stays as it is")
		case err != nil:
			c.options.Log.Debug().Err(err).Str("resource", k.resource).Msg("watch ended")
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay()):
		}
	}
}

// refused says that an error will not go away by trying again.
func refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// LogLibrary brings client-go's own log lines of what runs with the context into ours, for those who ask for debug.
func LogLibrary(ctx context.Context, log zerolog.Logger) context.Context {
	return klog.NewContext(ctx, funcr.New(func(prefix, args string) {
		log.Debug().Str("library", "client-go").Str("logger", prefix).Msg(args)
	}, funcr.Options{}))
}
