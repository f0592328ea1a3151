package gather

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/admission"
	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/deploy"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector"
	"github.com/heddle-mesh/heddle/kube"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var server = kubetest.New()

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// installation is a control plane that runs here against a real API server, with the objects that a chart makes. There is
// no kubelet: ports of pods are dialled directly.
type installation struct {
	t             *testing.T
	client        kubernetes.Interface
	system, shop  string
	api, webhooks net.Listener
	signer        *controlplane.Signer
	answer        atomic.Pointer[http.Handler] // what the webhooks do
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Dial stands for a port-forward.
func (w *installation) Dial(ctx context.Context, _, _ string, port int) (net.Conn, error) {
	for want, l := range map[int]net.Listener{api.Port: w.api, 15017: w.webhooks} {
		if port == want {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}
	}
	return nil, fmt.Errorf("port %d is not forwarded", port)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	return must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
}

// install makes an installation, and before its webhooks what is to be there without them.
func install(t *testing.T, before ...func(*installation)) *installation {
	t.Helper()
	w := &installation{t: t, client: server.Client(t), system: server.Namespace(t), shop: server.Namespace(t), api: listen(t), webhooks: listen(t)}
	w.label(w.system, "pod-security.kubernetes.io/enforce", "restricted")
	w.label(w.shop, check.InjectLabel, check.Enabled)
	for _, name := range []string{"heddle", "heddle-signer", api.ViewAccount, api.TapAccount} {
		server.Account(t, w.system, name)
	}
	w.run()
	for _, name := range []string{"heddle", "heddle-signer"} {
		w.workload(name)
	}
	w.config()
	for _, f := range before {
		f(w)
	}
	w.admission()
	return w
}

func (w *installation) label(namespace, key, value string) {
	w.t.Helper()
	n := must[*corev1.Namespace](w.t)(w.client.CoreV1().Namespaces().Get(w.t.Context(), namespace, metav1.GetOptions{}))
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[key] = value
	must[*corev1.Namespace](w.t)(w.client.CoreV1().Namespaces().Update(w.t.Context(), n, metav1.UpdateOptions{}))
}

// run runs the control plane with its signer and its webhooks.
func (w *installation) run() {
	t := w.t
	t.Helper()
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	signer, err := controlplane.NewClusterSigner(controlplane.SignerOptions{
		TrustDomain: td, Namespace: w.system, Listener: listen(t), Log: zerolog.Nop(),
	}, controlplane.ClusterOptions{Client: w.client, Identity: "heddle-1"})
	if err != nil {
		t.Fatal(err)
	}
	w.signer = signer
	cluster := must[*kube.Cluster](t)(kube.NewCluster(kube.ClusterOptions{Config: server.Config(t), Log: zerolog.Nop()}))
	plane := controlplane.New(controlplane.Options{
		Source: cluster, Status: cluster.Status, Namespace: w.system, TrustDomain: td, Log: zerolog.Nop(),
		Door: controlplane.Door{Listener: listen(t), TLS: signer.TLS()},
	})
	sidecars, err := admission.NewSidecars(injector.Options{Image: "example/heddle-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	webhooks := controlplane.NewWebhooks(plane, controlplane.WebhookOptions{Client: w.client, Injector: sidecars})
	w.answers(webhooks.Handler())
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- webhooks.Run(ctx) }()
	go func() {
		ended <- controlplane.Whole{Plane: plane, Signer: signer, API: signer.API(w.api, w.client.AuthenticationV1().TokenReviews())}.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	hooks := &http.Server{
		TLSConfig: &tls.Config{GetCertificate: w.named}, ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Connection", "close") // so that the API server finds its way anew each time
			(*w.answer.Load()).ServeHTTP(rw, r)
		}),
	}
	go func() { _ = hooks.ServeTLS(w.webhooks, "", "") }()
	t.Cleanup(func() { _ = hooks.Close() })
}

// answers has the webhooks do something else.
func (w *installation) answers(h http.Handler) { w.answer.Store(&h) }

// named is a certificate of the control plane by its DNS name, as a server has one from the signer.
func (w *installation) named(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if _, changed, err := w.signer.Keeper().Bundle(); err != nil { // there is no CA yet
		select {
		case <-changed:
		case <-hello.Context().Done():
		}
	}
	issuer, err := w.signer.Keeper().Issuer()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := issuer.Issue(hello.Context(), identity.Request{ID: w.signer.ServerID(), Key: key.Public(), DNSNames: []string{"heddle." + w.system + ".svc"}})
	if err != nil {
		return nil, err
	}
	return identity.Pair(key, chain), nil
}

// workload makes a Deployment, its Service, and a pod, as controllers and a kubelet would leave them.
func (w *installation) workload(name string) {
	t, ctx := w.t, w.t.Context()
	t.Helper()
	labels := map[string]string{"app.kubernetes.io/component": name}
	template := *restricted(corev1.PodSpec{ServiceAccountName: name, Containers: []corev1.Container{{Name: "heddle", Image: "heddle"}}})
	d := must[*appsv1.Deployment](t)(w.client.AppsV1().Deployments(w.system).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template},
		},
	}, metav1.CreateOptions{}))
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}
	must[*appsv1.Deployment](t)(w.client.AppsV1().Deployments(w.system).UpdateStatus(ctx, d, metav1.UpdateOptions{}))
	must[*corev1.Service](t)(w.client.CoreV1().Services(w.system).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}, metav1.CreateOptions{}))
	w.pod(w.system, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Labels: labels}, Spec: template}, true)
	bound := "heddle-check-" + w.system + "-" + name
	must[*rbacv1.ClusterRole](t)(w.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: bound}}, metav1.CreateOptions{}))
	must[*rbacv1.ClusterRoleBinding](t)(w.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: bound}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: bound},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.system, Name: name}},
	}, metav1.CreateOptions{}))
}

// restricted makes a pod that Pod Security lets in anywhere.
func restricted(s corev1.PodSpec) *corev1.PodSpec {
	s.Containers = slices.Clone(s.Containers)
	s.Containers[0].SecurityContext = redirected().Spec.Containers[0].SecurityContext
	return &s
}

func (w *installation) pod(namespace string, p *corev1.Pod, ready bool) {
	w.t.Helper()
	p = must[*corev1.Pod](w.t)(w.client.CoreV1().Pods(namespace).Create(w.t.Context(), p, metav1.CreateOptions{}))
	p.Status.Phase = corev1.PodRunning
	for _, c := range p.Spec.Containers {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: ready})
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: map[bool]corev1.ConditionStatus{true: "True", false: "False"}[ready]}}
	must[*corev1.Pod](w.t)(w.client.CoreV1().Pods(namespace).UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{}))
}

func (w *installation) config() {
	w.t.Helper()
	must[*corev1.ConfigMap](w.t)(w.client.CoreV1().ConfigMaps(w.system).Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: check.ConfigMap}}, metav1.CreateOptions{}))
}

// admission makes what is cluster-wide, as the chart has it. The API server finds the webhooks by their Service, which stands for
// this host: there is no kube-proxy.
func (w *installation) admission() {
	t, admission, create := w.t, w.client.AdmissionregistrationV1(), metav1.CreateOptions{}
	t.Helper()
	if shaken, err := tls.Dial("tcp", w.webhooks.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err != nil { // which waits for the CA
		t.Fatal(err)
	} else {
		_ = shaken.Close()
	}
	bundle, _, err := w.signer.Keeper().Bundle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.remove(context.Background()) })
	ca, port := identity.AnchorsPEM(bundle), portOf(w.webhooks)
	made := 0
	for part := range strings.SplitSeq(must[string](t)(deploy.Render(deploy.Release{Namespace: w.system})), "\n---\n") {
		var is metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(part), &is); err != nil {
			t.Fatal(err)
		}
		switch is.Kind {
		case "MutatingWebhookConfiguration":
			c := decoded[admissionv1.MutatingWebhookConfiguration](t, part)
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle, c.Webhooks[i].ClientConfig.Service.Port = ca, &port
			}
			must[*admissionv1.MutatingWebhookConfiguration](t)(admission.MutatingWebhookConfigurations().Create(t.Context(), c, create))
		case "ValidatingWebhookConfiguration":
			c := decoded[admissionv1.ValidatingWebhookConfiguration](t, part)
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle, c.Webhooks[i].ClientConfig.Service.Port = ca, &port
			}
			must[*admissionv1.ValidatingWebhookConfiguration](t)(admission.ValidatingWebhookConfigurations().Create(t.Context(), c, create))
		case "ValidatingAdmissionPolicy":
			must[*admissionv1.ValidatingAdmissionPolicy](t)(admission.ValidatingAdmissionPolicies().Create(t.Context(), decoded[admissionv1.ValidatingAdmissionPolicy](t, part), create))
		case "ValidatingAdmissionPolicyBinding":
			must[*admissionv1.ValidatingAdmissionPolicyBinding](t)(admission.ValidatingAdmissionPolicyBindings().Create(t.Context(), decoded[admissionv1.ValidatingAdmissionPolicyBinding](t, part), create))
		default:
			continue
		}
		made++
	}
	if made < 4 {
		t.Fatalf("the chart has %d objects of admission", made)
	}
}

func decoded[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func portOf(l net.Listener) int32 { return int32(l.Addr().(*net.TCPAddr).Port) }

func (w *installation) remove(ctx context.Context) {
	admission, now, all := w.client.AdmissionregistrationV1(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=heddle"}
	err := errors.Join(
		admission.MutatingWebhookConfigurations().DeleteCollection(ctx, now, all),
		admission.ValidatingWebhookConfigurations().DeleteCollection(ctx, now, all),
		admission.ValidatingAdmissionPolicyBindings().DeleteCollection(ctx, now, all),
		admission.ValidatingAdmissionPolicies().DeleteCollection(ctx, now, all),
	)
	if err != nil {
		w.t.Error(err)
	}
}
