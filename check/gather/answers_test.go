package gather

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionreviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/wait"
)

// changed changes both webhook configurations, and gives what puts them back.
func (w *installation) changed(injects func(*admissionv1.MutatingWebhook), judges func(*admissionv1.ValidatingWebhook)) (restore func()) {
	t, ctx, admission := w.t, w.t.Context(), w.client.AdmissionregistrationV1()
	t.Helper()
	read := func() (*admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration) {
		t.Helper()
		return must[*admissionv1.MutatingWebhookConfiguration](t)(admission.MutatingWebhookConfigurations().Get(ctx, check.InjectorWebhook, metav1.GetOptions{})),
			must[*admissionv1.ValidatingWebhookConfiguration](t)(admission.ValidatingWebhookConfigurations().Get(ctx, check.PolicyWebhook, metav1.GetOptions{}))
	}
	put := func(m *admissionv1.MutatingWebhookConfiguration, v *admissionv1.ValidatingWebhookConfiguration) {
		t.Helper()
		nowM, nowV := read()
		nowM.Webhooks, nowV.Webhooks = m.Webhooks, v.Webhooks
		must[*admissionv1.MutatingWebhookConfiguration](t)(admission.MutatingWebhookConfigurations().Update(ctx, nowM, metav1.UpdateOptions{}))
		must[*admissionv1.ValidatingWebhookConfiguration](t)(admission.ValidatingWebhookConfigurations().Update(ctx, nowV, metav1.UpdateOptions{}))
	}
	mutating, validating := read()
	m, v := mutating.DeepCopy(), validating.DeepCopy()
	for i := range m.Webhooks {
		injects(&m.Webhooks[i])
	}
	for i := range v.Webhooks {
		judges(&v.Webhooks[i])
	}
	put(m, v)
	return func() { put(mutating, validating) }
}

// refusing answers every review with a fault of its own.
func refusing(w http.ResponseWriter, r *http.Request) {
	var review admissionreviewv1.AdmissionReview
	_ = json.NewDecoder(r.Body).Decode(&review) // without a uid the API server would not take the answer
	review.Response = &admissionreviewv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Code: 500, Message: "a fault"}}
	_ = json.NewEncoder(w).Encode(review)
}

// hanging never answers. The request's context ends when whoever asked goes away, once its body is read.
func hanging(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestWhetherWebhooksAnswerIsWhatTheAPIServerSays(t *testing.T) {
	w := install(t)
	real := *w.answer.Load()
	closed := listen(t)
	_ = closed.Close()
	stranger := certs.New(t).PEM()
	shut, second := portOf(closed), int32(1)
	services := w.client.CoreV1().Services(w.system)
	for _, step := range []struct {
		name             string
		begin            func() (end func())
		injector, policy string // the results
		reasons          []string
	}{
		{"all is well", func() func() { return func() {} }, "success", "success", nil},
		{"the way to the Service is not there", func() func() {
			return w.changed(func(h *admissionv1.MutatingWebhook) { h.ClientConfig.Service.Port = &shut }, func(h *admissionv1.ValidatingWebhook) {
				fail := admissionv1.Fail
				h.ClientConfig.Service.Port, h.FailurePolicy = &shut, &fail
			})
		}, "error", "error", []string{"gets no answer from the sidecar injector", "gets no answer from the policy validator", "connection refused", "kube-proxy brings the way"}},
		{"nobody answers, and the API server does not say so", func() func() {
			return w.changed(func(*admissionv1.MutatingWebhook) {}, func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.Service.Port = &shut })
		}, "success", "error", []string{"keeps the reason to itself (failurePolicy Ignore)"}},
		{"they hang", func() func() {
			w.answers(http.HandlerFunc(hanging))
			restore := w.changed(func(h *admissionv1.MutatingWebhook) { h.TimeoutSeconds = &second }, func(h *admissionv1.ValidatingWebhook) { h.TimeoutSeconds = &second })
			return func() { restore(); w.answers(real) }
		}, "error", "error", []string{"context deadline exceeded", "port 15017"}},
		{"they refuse all", func() func() {
			w.answers(http.HandlerFunc(refusing))
			return func() { w.answers(real) }
		}, "error", "error", []string{"the sidecar injector answers, and refuses what is good", "the policy validator answers, and refuses what is good", "a fault"}},
		{"they are not webhooks", func() func() {
			w.answers(http.NotFoundHandler())
			return func() { w.answers(real) }
		}, "error", "error", []string{"gets no answer from the sidecar injector", "could not find the requested resource"}},
		{"the namespace forbids redirection", func() func() {
			w.label(w.shop, "pod-security.kubernetes.io/enforce", "baseline")
			return func() { w.label(w.shop, "pod-security.kubernetes.io/enforce", "privileged") }
		}, "warning", "success", []string{"refuses a plain Pod in namespace " + w.shop, "kubectl label namespace"}},
		{"they are asked about nothing here", func() func() {
			nobody := &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "here"}}
			return w.changed(func(h *admissionv1.MutatingWebhook) { h.NamespaceSelector = nobody }, func(h *admissionv1.ValidatingWebhook) { h.NamespaceSelector = nobody })
		}, "error", "error", []string{"would be made without one in namespace " + w.shop, "the API server does not ask the policy validator"}},
		{"there is no Service", func() func() {
			s := must[*corev1.Service](t)(services.Get(t.Context(), "heddle", metav1.GetOptions{}))
			_ = services.Delete(t.Context(), "heddle", metav1.DeleteOptions{})
			return func() {
				s.ResourceVersion, s.UID = "", ""
				must[*corev1.Service](t)(services.Create(t.Context(), s, metav1.CreateOptions{}))
			}
		}, "error", "error", []string{`service "heddle" not found`, "no pod is behind the Service"}},
		{"all is well again", func() func() { return func() {} }, "success", "success", nil},
	} {
		end := step.begin()
		var r check.Report
		// The API server hears of changes a moment later.
		wait.Until(t, time.Minute, step.name, func() bool {
			r, _ = w.look(Options{Namespace: w.shop})
			return resultOf(r, "injector-answers") == step.injector && resultOf(r, "policy-answers") == step.policy
		})
		for _, want := range step.reasons {
			if !strings.Contains(text(r), want) {
				t.Errorf("%s: want %q in\n%s", step.name, want, text(r))
			}
		}
		end()
	}

	// What the API server does not trust is found earlier by its certificate; unless it alone sees it so.
	restore := w.changed(func(h *admissionv1.MutatingWebhook) { h.ClientConfig.CABundle = stranger }, func(h *admissionv1.ValidatingWebhook) {})
	defer restore()
	wait.Until(t, time.Minute, "the API server trusts the injector no more", func() bool {
		all := w.facts(Options{Namespace: w.shop}).InjectorAnswers
		return len(all) == 1 && all[0].Lost() && strings.Contains(all[0].Err.Error(), "x509: ")
	})
}

func resultOf(r check.Report, name string) string {
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Name == name {
				return string(c.Status)
			}
		}
	}
	return ""
}

func TestWhoMayCreateNothingIsToldThatWebhooksWereNotAsked(t *testing.T) {
	w := install(t)
	reads := rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}}
	tokens := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}}
	config := server.Limited(t, w.shop, reads, tokens)
	var r check.Report
	wait.Until(t, time.Minute, "the control plane to be found well", func() bool {
		r, _ = w.look(Options{Config: config, Namespace: w.shop})
		return r.Success
	})
	for name, want := range map[string]string{
		"injector-answers": "not asked: you may not create Pods in namespace " + w.shop,
		"policy-answers":   "not asked: you may not create ConfigMaps in namespace " + w.system,
	} {
		if resultOf(r, name) != "skipped" || reasonOf(r, name) != want {
			t.Errorf("%s: %s, %q; want it skipped: %s", name, resultOf(r, name), reasonOf(r, name), want)
		}
	}
}

// An injector that has nothing to say about a namespace is no fault of the mesh.
func TestTheInjectorIsAskedWhereItApplies(t *testing.T) {
	w := install(t)
	for namespace, want := range map[string]int{w.shop: 1, w.system: 0, "kube-system": 0, "": 1} {
		var got []check.Answer
		wait.Until(t, time.Minute, "the injector's answer", func() bool {
			got = w.facts(Options{Namespace: namespace}).InjectorAnswers
			return len(got) == 0 || got[len(got)-1].Met
		})
		if len(got) != want {
			t.Errorf("with -n %q it is asked in %v; want %d", namespace, got, want)
		}
	}
	pods := must[*corev1.PodList](t)(w.client.CoreV1().Pods(w.shop).List(t.Context(), metav1.ListOptions{}))
	maps := must[*corev1.ConfigMapList](t)(w.client.CoreV1().ConfigMaps(w.system).List(t.Context(), metav1.ListOptions{LabelSelector: check.PolicyLabel}))
	if len(pods.Items)+len(maps.Items) > 0 {
		t.Errorf("asking has made %d Pods and %d ConfigMaps", len(pods.Items), len(maps.Items))
	}
}
