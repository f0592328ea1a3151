package admission

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/kube/leader"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/secrets"
)

// rights are those of the server's account, as the chart grants them.
func rights(t testing.TB) []rbacv1.PolicyRule {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	installed(t, "ClusterRole", "heddle", role)
	return role.Rules
}

// replica is a control plane of one or several.
type replica struct {
	*controlplane.Plane
	*controlplane.Webhooks
	elector *leader.Elector
	away    *atomic.Bool // the API server does not answer its election any more, as if its node had lost the network
	stop    func()
}

// run starts a replica whose webhooks and status writer have the rights of the server's account, and are held as it is.
// It returns when the mesh is known.
func run(t testing.TB, name, leases string) *replica {
	t.Helper()
	log := secrets.New(t).Log(name)
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: api.Config(t), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own, _ := clientOf(t, writer)
	r := &replica{away: &atomic.Bool{}, Plane: controlplane.New(controlplane.Options{Source: cluster, Door: controlplane.Door{Listener: l, TLS: certs.New(t).Server()}, Log: log})}
	r.Webhooks = controlplane.NewWebhooks(r.Plane, controlplane.WebhookOptions{
		Client: own, Injector: sidecars(t),
	})
	r.elector, err = leader.New(leader.Options{Leases: leasesUnless(t, r.away).CoordinationV1(), Namespace: leases, Name: leader.Writer, Identity: name, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for what, part := range map[string]func(context.Context) error{
		"control plane": r.Plane.Run, "webhooks": r.Webhooks.Run,
		"election": func(ctx context.Context) error { return r.elector.Run(ctx, r.WriteStatus) },
	} {
		parts.Go(func() {
			if err := part(ctx); err != nil {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		})
	}
	r.stop = sync.OnceFunc(func() { cancel(); parts.Wait() })
	t.Cleanup(r.stop)
	eventually(t, "the mesh is known", func() bool {
		_, err := r.Try(t.Context(), kube.PolicyOf(aPolicy("a", "kind: Traffic\nservice: a\n")))
		return err == nil
	})
	return r
}

// leasesUnless gives a client that gets no answer while away is set.
func leasesUnless(t testing.TB, away *atomic.Bool) kubernetes.Interface {
	t.Helper()
	config := api.Config(t)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if away.Load() {
				return nil, errors.New("the network is gone")
			}
			return next.RoundTrip(r)
		})
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// aPolicy is a policy ConfigMap with one document.
func aPolicy(name, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"heddle.dev/policy": "true"}},
		Data:       map[string]string{"traffic.yaml": text},
	}
}

// put makes a ConfigMap, or replaces it but for its annotations, as kubectl apply does.
func put(ctx context.Context, client kubernetes.Interface, namespace string, c *corev1.ConfigMap, dry ...string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	there, err := maps.Get(ctx, c.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, c, metav1.CreateOptions{DryRun: dry})
		return err
	}
	if err != nil {
		return err
	}
	there.Data, there.Labels, there.ResourceVersion = c.Data, c.Labels, ""
	_, err = maps.Update(ctx, there, metav1.UpdateOptions{DryRun: dry})
	return err
}

// stored is a ConfigMap as it is.
func stored(t testing.TB, client kubernetes.Interface, namespace, name string) *corev1.ConfigMap {
	t.Helper()
	c, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// service makes a Service with one HTTP port.
func service(t testing.TB, client kubernetes.Interface, namespace, name string) {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if _, err := client.CoreV1().Services(namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
