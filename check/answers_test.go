package check

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// uncalled is the API server's word on a webhook that it did not reach, as Kubernetes 1.36 says it.
func uncalled(webhook, why string) error {
	return apierrors.NewInternalError(errors.New(`failed calling webhook "` + webhook + `": failed to call webhook: ` + why))
}

// refusedBy is its word on one that said no.
func refusedBy(webhook string, code int32, reason metav1.StatusReason, why string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: `admission webhook "` + webhook + `" denied the request: ` + why,
	}}
}

const (
	injectorName  = "pod.inject.heddle.dev"
	validatorName = "policy.heddle.dev"
)

// answerIlls are the ways in which a webhook is not there for the API server, though all looks well.
func answerIlls() []ill {
	pods := func(answers ...Answer) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) { f.InjectorAnswers = answers }
	}
	maps := func(answers ...Answer) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) { f.PolicyAnswers = answers }
	}
	never := func(a Answer) func(*Facts, *authority) {
		return func(f *Facts, _ *authority) {
			ignore := admissionv1.Ignore
			f.Validating.Value.Webhooks[0].FailurePolicy, f.PolicyAnswers = &ignore, []Answer{a}
		}
	}
	quota := forbidden("pods")
	fault := refusedBy(injectorName, http.StatusInternalServerError, metav1.StatusReasonInternalError, "look at its namespace: no answer")
	tight := refusedBy(injectorName, http.StatusForbidden, metav1.StatusReasonForbidden, "namespace shop enforces the Pod Security Standard")
	return []ill{
		{"injector-answers", Failed, "gets no answer from the sidecar injector", pods(Answer{Namespace: "shop", Err: uncalled(injectorName, "EOF")})},
		{"injector-answers", Failed, "would be made without one in namespace shop: the API server does not ask the sidecar injector", pods(Answer{Namespace: "shop"})},
		{"injector-answers", Failed, "refuses what is good: admission webhook", pods(Answer{Namespace: "shop", Err: fault})},
		{"injector-answers", Warned, "refuses a plain Pod in namespace shop: admission webhook", pods(Answer{Namespace: "shop", Err: tight})},
		{"injector-answers", Warned, "refuses a plain Pod in namespace shop", pods(Answer{Namespace: "bank", Err: quota}, Answer{Namespace: "shop", Err: tight})},
		{"injector-answers", Skipped, "not asked: you may not create Pods in namespace shop", pods(Answer{Namespace: "shop", Err: mayNot("pods")})},
		{"injector-answers", Skipped, "not asked: a Pod in namespace shop is refused before: pods is forbidden: no right", pods(Answer{Namespace: "shop", Err: quota})},
		{"injector-answers", Skipped, `refused before: Internal error occurred: failed calling webhook "another"`, pods(Answer{Namespace: "shop", Err: uncalled("another", "EOF")})},
		{"injector-answers", Skipped, "there is no namespace to ask in", pods()},
		{"policy-answers", Failed, "gets no answer from the policy validator", maps(Answer{Namespace: "heddle-system", Err: uncalled(validatorName, "EOF")})},
		{"policy-answers", Failed, "keeps the reason to itself (failurePolicy Ignore)", never(Answer{Namespace: "heddle-system"})},
		{"policy-answers", Failed, "the policy validator answers, and refuses what is good", maps(Answer{
			Namespace: "heddle-system", Err: refusedBy(validatorName, http.StatusForbidden, metav1.StatusReasonForbidden, "no"),
		})},
		{"policy-answers", Skipped, "not asked: you may not create ConfigMaps in namespace heddle-system", maps(Answer{Namespace: "heddle-system", Err: mayNot("configmaps")})},
	}
}

// mayNot is RBAC's no.
func mayNot(resource string) error {
	err := forbidden(resource)
	err.(*apierrors.StatusError).ErrStatus.Message = resource + ` is forbidden: User "ann" cannot create resource "` + resource + `" in API group "" in the namespace "shop"`
	return err
}

func TestEachWayOfNotReachingAWebhookHasItsHint(t *testing.T) {
	const post = `Post "https://heddle.heddle-system.svc:443/inject?timeout=5s": `
	for why, want := range map[string]string{
		post + "dial tcp 10.96.0.7:443: connect: connection refused":                     "kube-proxy brings the way",
		post + "dial tcp 10.96.0.7:443: connect: no route to host":                       "kube-proxy brings the way",
		post + `no endpoints available for service "heddle"`:                             "no pod is behind the Service",
		post + `service "heddle" not found`:                                              "there is no Service",
		post + "context deadline exceeded":                                               "a firewall, a security group or a NetworkPolicy",
		post + "dial tcp 10.96.0.7:443: i/o timeout":                                     "port 15017",
		post + "net/http: TLS handshake timeout":                                         "port 15017",
		post + "tls: failed to verify certificate: x509: signed by unknown authority":    "writes caBundle",
		post + "remote error: tls: bad certificate":                                      "writes caBundle",
		"an error on the server (\"4 other reviews were under way\") has prevented this": "kubectl logs -n heddle-system deploy/heddle",
	} {
		f, _ := healthy(t)
		f.InjectorAnswers = []Answer{{Namespace: "shop", Err: uncalled(injectorName, why)}}
		got := Evaluate(f, everything()).find(t, "injector-answers")
		if got.Status != Failed || !strings.Contains(got.Hint, want) || !strings.Contains(got.Reason, why) {
			t.Errorf("%s:\n%+v\nwant %q in the hint", why, got, want)
		}
	}
}

// Of several namespaces some may be closed to whoever asks.
func TestOneAnswerOfAWebhookIsEnough(t *testing.T) {
	f, _ := healthy(t)
	f.InjectorAnswers = []Answer{{Namespace: "bank", Err: mayNot("pods")}, {Namespace: "shop", Met: true}}
	if got := Evaluate(f, everything()).unwell(); len(got) > 0 {
		t.Errorf("not passed: %v", got)
	}
}
