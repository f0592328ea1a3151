package gather

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
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
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/identity"
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

func install(t *testing.T) *installation {
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

// run runs the control plane with its signer, and a TLS server in place of its webhooks.
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
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- controlplane.Whole{Plane: plane, Signer: signer, API: signer.API(w.api, w.client.AuthenticationV1().TokenReviews())}.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	hooks := &http.Server{TLSConfig: &tls.Config{GetCertificate: w.named}, ReadHeaderTimeout: time.Second}
	go func() { _ = hooks.ServeTLS(w.webhooks, "", "") }()
	t.Cleanup(func() { _ = hooks.Close() })
}

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
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 443}}},
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

// admission makes what is cluster-wide, of which there can be one.
func (w *installation) admission() {
	t, ctx, admission := w.t, w.t.Context(), w.client.AdmissionregistrationV1()
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
	ca := identity.AnchorsPEM(bundle)
	none, ignore, path := admissionv1.SideEffectClassNone, admissionv1.Ignore, "/x"
	to := admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: w.system, Name: "heddle", Path: &path}, CABundle: ca}
	nobody := &metav1.LabelSelector{MatchLabels: map[string]string{"heddle.dev/inject": "in-this-test-nobody"}}
	must[*admissionv1.MutatingWebhookConfiguration](t)(admission.MutatingWebhookConfigurations().Create(ctx, &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: check.InjectorWebhook},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "pod.inject.heddle.dev", ClientConfig: to, SideEffects: &none, FailurePolicy: &ignore, AdmissionReviewVersions: []string{"v1"}, NamespaceSelector: nobody, Rules: newOnes("pods"),
		}},
	}, metav1.CreateOptions{}))
	must[*admissionv1.ValidatingWebhookConfiguration](t)(admission.ValidatingWebhookConfigurations().Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: check.PolicyWebhook},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "policy.heddle.dev", ClientConfig: to, SideEffects: &none, FailurePolicy: &ignore, AdmissionReviewVersions: []string{"v1"}, NamespaceSelector: nobody, Rules: newOnes("configmaps"),
		}},
	}, metav1.CreateOptions{}))
	must[*admissionv1.ValidatingAdmissionPolicy](t)(admission.ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: check.StatusPolicy}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{"UPDATE"}, Rule: admissionv1.Rule{APIGroups: []string{"none.heddle.dev"}, APIVersions: []string{"v1"}, Resources: []string{"nothings"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: "true"}},
		},
	}, metav1.CreateOptions{}))
	must[*admissionv1.ValidatingAdmissionPolicyBinding](t)(admission.ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: check.StatusPolicy},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: check.StatusPolicy, ValidationActions: []admissionv1.ValidationAction{"Deny"}},
	}, metav1.CreateOptions{}))
	t.Cleanup(func() { w.remove(context.Background()) })
}

func (w *installation) remove(ctx context.Context) {
	admission, now := w.client.AdmissionregistrationV1(), metav1.DeleteOptions{}
	_ = admission.MutatingWebhookConfigurations().Delete(ctx, check.InjectorWebhook, now)
	_ = admission.ValidatingWebhookConfigurations().Delete(ctx, check.PolicyWebhook, now)
	_ = admission.ValidatingAdmissionPolicies().Delete(ctx, check.StatusPolicy, now)
	_ = admission.ValidatingAdmissionPolicyBindings().Delete(ctx, check.StatusPolicy, now)
}

// look gathers and judges, and gives what did not pass and is not behind another.
func (w *installation) look(o Options) (check.Report, []string) {
	w.t.Helper()
	if o.Config == nil {
		o.Config = server.Config(w.t)
	}
	o.ControlPlane, o.Dialer = w.system, w
	f := Facts(w.t.Context(), o)
	r := check.Evaluate(f, check.Options{Mode: o.Mode, DataPlane: o.DataPlane, Now: time.Now(), Version: buildinfo.Get().Version})
	return r, unwell(r)
}

func unwell(r check.Report) []string {
	list := []string{}
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Status != check.Passed && c.Behind == "" {
				list = append(list, c.Name+"="+string(c.Status))
			}
		}
	}
	return list
}

func reasonOf(r check.Report, name string) string {
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Name == name {
				return c.Reason
			}
		}
	}
	return ""
}

// asked are the checks that nobody was asked about here.
func asked() []string { return []string{"kubectl-version=skipped", "cli-latest=skipped"} }

func TestAMeshThatWorksPassesAndWhatBreaksIsFound(t *testing.T) {
	w := install(t)
	core, ctx, now := w.client.CoreV1(), t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	var r check.Report
	var got []string
	for end := time.Now().Add(time.Minute); ; { // the control plane has just been started
		if r, got = w.look(Options{}); slices.Equal(got, asked()) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after a minute: %v\n%s", got, text(r))
		}
	}
	for _, step := range []struct {
		name      string
		break_    func()
		want      string
		reason    string
		dataPlane check.DataPlane
	}{
		{"a pod without its sidecar", func() {
			w.pod(w.shop, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}, true)
		}, "injected=warning", "pod " + w.shop + "/old has no sidecar", check.WithDataPlane},
		{"a pod whose sidecar is not connected", func() {
			w.pod(w.shop, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{sidecarLabel: "true"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: check.ProxyContainer, Image: "proxy"}}},
			}, true)
		}, "proxies-listed=error", "pod " + w.shop + "/web is not connected", check.WithDataPlane},
		{"a Service that is gone", func() { _ = core.Services(w.system).Delete(ctx, "heddle-signer", now) }, "services=error", "there is no Service", ""},
		{"a policy that only warns", func() {
			bindings := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
			if b, err := bindings.Get(ctx, check.StatusPolicy, metav1.GetOptions{}); err == nil {
				b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
				_, _ = bindings.Update(ctx, b, metav1.UpdateOptions{})
			}
		}, "admission-policy=error", "with a binding that denies", ""},
		{"a policy without a binding", func() {
			_ = w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, check.StatusPolicy, now)
		}, "admission-policy=error", "heddle-status-writer", ""},
		{"a pod of the control plane that is gone", func() { _ = core.Pods(w.system).Delete(ctx, "heddle-signer-1", now) }, "control-plane-pods=error", "no pod of Deployment", ""},
	} {
		step.break_()
		r, got := w.look(Options{DataPlane: step.dataPlane})
		name, _, _ := strings.Cut(step.want, "=")
		if !slices.Contains(got, step.want) || !strings.Contains(reasonOf(r, name), step.reason) {
			t.Errorf("%s: %v\n%s", step.name, got, text(r))
		}
	}
}

func text(r check.Report) string {
	var b strings.Builder
	_ = r.Write(&b, check.Plain)
	return b.String()
}

func TestWhoMayReadLittleIsToldWhatIsMissing(t *testing.T) {
	namespace := server.Namespace(t)
	config := server.Limited(t, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}})
	w := &installation{t: t, client: server.Client(t), system: namespace}
	r, got := w.look(Options{Config: config})
	for _, want := range []string{"deployments=error", "cluster-roles=error", "mutating-webhook=error", "trust-bundle=error"} {
		name, _, _ := strings.Cut(want, "=")
		if !slices.Contains(got, want) || !strings.Contains(reasonOf(r, name), "forbidden") {
			t.Errorf("%s: %q; want it to say what is forbidden", name, reasonOf(r, name))
		}
	}
	if reasonOf(r, "namespace") != "" {
		t.Errorf("the namespace that may be read: %s", reasonOf(r, "namespace"))
	}
}

func TestALookBeforehandAsksTheAPIServerForEachRight(t *testing.T) {
	namespace := server.Namespace(t)
	w := &installation{t: t, client: server.Client(t), system: "not-there-yet"}
	r, got := w.look(Options{Mode: check.Pre, Namespace: namespace})
	if !slices.Equal(got, []string{"kubectl-version=skipped"}) {
		t.Errorf("for an administrator: %v\n%s", got, text(r))
	}
	w.label(namespace, "pod-security.kubernetes.io/enforce", "baseline")
	r, got = w.look(Options{Mode: check.Pre, Namespace: namespace})
	if !slices.Contains(got, "net-admin=error") || !strings.Contains(reasonOf(r, "net-admin"), `non-default capabilities`) {
		t.Errorf("under Pod Security baseline: %v\n%s", got, text(r))
	}
	limited := server.Limited(t, namespace, rbacv1.PolicyRule{APIGroups: []string{"", "apps"}, Resources: []string{"services", "deployments"}, Verbs: []string{"create", "get"}})
	r, got = w.look(Options{Mode: check.Pre, Namespace: namespace, Config: limited})
	for _, want := range []string{"can-create-clusterroles=error", "can-create-namespaces=error", "no-leftovers=error", "net-admin=skipped"} {
		if !slices.Contains(got, want) {
			t.Errorf("with few rights: %v; want %s in it\n%s", got, want, text(r))
		}
	}
	if slices.Contains(got, "can-create-services=error") {
		t.Error("a right that is there is said to be missing")
	}
	pods := must[*corev1.PodList](t)(w.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{}))
	if len(pods.Items) > 0 {
		t.Errorf("looking has made %d pods", len(pods.Items))
	}
}

func TestLeftoversOfAnInstallationAreNamed(t *testing.T) {
	w := install(t)
	r, got := w.look(Options{Mode: check.Pre, Namespace: w.shop})
	if !slices.Contains(got, "no-leftovers=error") || !strings.Contains(reasonOf(r, "no-leftovers"), "MutatingWebhookConfiguration heddle-injector") {
		t.Errorf("%v\n%s", got, text(r))
	}
}

// broken is an API server that answers the same to everything but its version.
func broken(t *testing.T, version string, status int) *rest.Config {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/version" && version != "" {
			_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": version})
			return
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: "etcd is away", Code: int32(status), Reason: map[int]metav1.StatusReason{500: metav1.StatusReasonInternalError, 401: metav1.StatusReasonUnauthorized}[status],
		})
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL}
}

func TestAnAPIServerThatCannotBeUsedIsSaidToBe(t *testing.T) {
	free := listen(t)
	nobody := &rest.Config{Host: "http://" + free.Addr().String()}
	_ = free.Close()
	for name, c := range map[string]struct {
		config             *rest.Config
		check, reason, say string
	}{
		"it answers 500":                   {broken(t, "", 500), "api-query", "for its version: an error on the server", "kubectl get --raw '/readyz?verbose'"},
		"it answers 500 but its version":   {broken(t, "v1.36.0", 500), "namespace", "etcd is away", "kubectl get --raw '/readyz?verbose'"},
		"it is too old":                    {broken(t, "v1.28.3", 500), "kubernetes-version", "the API server is v1.28.3, and 1.30.0 is needed", "upgrade the cluster"},
		"it does not take the credentials": {broken(t, "", 401), "api-query", "asked for the client to provide credentials", "renew them, or name another --context"},
		"nobody answers":                   {nobody, "api-query", "connection refused", "kubectl version"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &installation{t: t, system: "heddle-system"}
			r, _ := w.look(Options{Config: c.config})
			if !strings.Contains(reasonOf(r, c.check), c.reason) || !strings.Contains(text(r), c.say) || r.Success {
				t.Errorf("want %s to say %q and %q:\n%s", c.check, c.reason, c.say, text(r))
			}
		})
	}
	r := check.Evaluate(Facts(t.Context(), Options{ConfigErr: errors.New("there is no kubeconfig")}), check.Options{Now: time.Now()})
	if got := reasonOf(r, "client"); got != "there is no kubeconfig" {
		t.Errorf("without a kubeconfig: %q", got)
	}
}
