package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// injectLabel on a namespace with the value "enabled" puts its pods into the mesh.
const injectLabel = "heddle.dev/inject"

// Namespaces knows the labels of namespaces, from a watch while Run runs, and by asking.
type Namespaces struct {
	client   kubernetes.Interface
	store    cache.Store
	informer cache.Controller
}

// NewNamespaces prepares to watch; nothing is sent before Run. It needs to get, list and watch namespaces.
func NewNamespaces(client kubernetes.Interface) *Namespaces {
	n := &Namespaces{client: client}
	n.store, n.informer = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "namespaces", metav1.NamespaceAll, func(*metav1.ListOptions) {}),
		ObjectType:    &corev1.Namespace{},
		Handler:       cache.ResourceEventHandlerFuncs{},
		Transform: func(o any) (any, error) {
			if ns, ok := o.(*corev1.Namespace); ok {
				return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, Labels: ns.Labels, ResourceVersion: ns.ResourceVersion}}, nil
			}
			return o, nil
		},
	})
	return n
}

// Run watches until ctx ends.
func (n *Namespaces) Run(ctx context.Context) error {
	n.informer.RunWithContext(ctx)
	return nil
}

// Labels gives a namespace's. The watch is believed only where it says that pods are to be injected: a label may have been
// set a moment ago, and be known to the API server that asks, so that anything else is asked for anew. That is rare.
func (n *Namespaces) Labels(ctx context.Context, name string) (map[string]string, error) {
	if o, ok, _ := n.store.GetByKey(name); ok {
		if labels := o.(*corev1.Namespace).Labels; labels[injectLabel] == "enabled" {
			return labels, nil
		}
	}
	ns, err := n.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}
