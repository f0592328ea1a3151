package gather

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/check"
)

// look gathers and judges, and gives what did not pass and is not behind another.
func (w *installation) look(o Options) (check.Report, []string) {
	w.t.Helper()
	r := check.Evaluate(w.facts(o), check.Options{Mode: o.Mode, DataPlane: o.DataPlane, Now: time.Now(), Version: buildinfo.Get().Version})
	return r, unwell(r)
}

func (w *installation) facts(o Options) *check.Facts {
	w.t.Helper()
	if o.Config == nil {
		o.Config = server.Config(w.t)
	}
	o.ControlPlane, o.Dialer = w.system, w
	return Facts(w.t.Context(), o)
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
	w := install(t, func(w *installation) {
		w.pod(w.shop, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}, true)
		w.pod(w.shop, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{sidecarLabel: "true"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: check.ProxyContainer, Image: "proxy"}}},
		}, true)
	})
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
		{"a pod without its sidecar", func() {}, "injected=warning", "pod " + w.shop + "/old has no sidecar", check.WithDataPlane},
		{"a pod whose sidecar is not connected", func() {}, "proxies-listed=error", "pod " + w.shop + "/web is not connected", check.WithDataPlane},
		{"a Service that is gone", func() { _ = core.Services(w.system).Delete(ctx, "heddle-signer", now) }, "services=error", "there is no Service", ""},
		{"a policy that only warns", func() {
			bindings := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
			if b, err := bindings.Get(ctx, "heddle-status-writer", metav1.GetOptions{}); err == nil {
				b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
				_, _ = bindings.Update(ctx, b, metav1.UpdateOptions{})
			}
		}, "admission-policy=error", "heddle-status-writer has no binding that denies", ""},
		{"a policy without a binding", func() {
			_ = w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, "heddle-last-good", now)
		}, "admission-policy=error", "heddle-last-good has no binding: ", ""},
		{"a policy that is gone", func() {
			_ = w.client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, "heddle-injector", now)
		}, "admission-policy=error", "heddle-injector does not exist", ""},
		{"a policy that the API server warns of", func() { w.warnedOf("heddle-policy") }, "admission-policy=error", "heddle-policy has an expression that the API server warns of", ""},
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

// warnedOf says of a policy what the controller that checks types would: there is none here.
func (w *installation) warnedOf(name string) {
	w.t.Helper()
	policies := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	p := must[*admissionv1.ValidatingAdmissionPolicy](w.t)(policies.Get(w.t.Context(), name, metav1.GetOptions{}))
	p.Status.TypeChecking = &admissionv1.TypeChecking{ExpressionWarnings: []admissionv1.ExpressionWarning{{FieldRef: "spec.validations[0].expression", Warning: "undefined field"}}}
	must[*admissionv1.ValidatingAdmissionPolicy](w.t)(policies.UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{}))
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
