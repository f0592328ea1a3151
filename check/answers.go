package check

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Answer is what came of asking a webhook in the only way that counts: by the API server, which was to make an object as a dry
// run.
type Answer struct {
	Namespace string // of the object
	Met       bool   // the webhook has answered: the object came back as it makes it, or with its warning
	Err       error  // why the API server would not make the object
}

// Lost says that the API server called a webhook and got no answer.
func (a Answer) Lost() bool { return a.names(noAnswer) != "" }

// How the API server begins what it says of a webhook (k8s.io/apiserver, admission/plugin/webhook).
const (
	noAnswer = `failed calling webhook "`
	denied   = `admission webhook "`
)

// names gives the webhook that an error is about; empty if the error is another one.
func (a Answer) names(beginning string) string {
	if a.Err == nil {
		return ""
	}
	_, rest, found := strings.Cut(a.Err.Error(), beginning)
	name, _, ended := strings.Cut(rest, `"`)
	if !found || !ended || beginning == denied && !strings.Contains(rest, " denied the request") {
		return ""
	}
	return name
}

// untried says why an object was not put to the webhook.
func (a Answer) untried(kind string) string {
	if apierrors.IsForbidden(a.Err) && strings.Contains(a.Err.Error(), "cannot create resource") { // RBAC's words; a quota has others
		return fmt.Sprintf("not asked: you may not create %ss in namespace %s", kind, a.Namespace)
	}
	return fmt.Sprintf("not asked: a %s in namespace %s is refused before: %v", kind, a.Namespace, a.Err)
}

// question is what a webhook was asked.
type question struct {
	webhook string   // as people know it
	names   []string // of the webhooks that it has in the API server
	kind    string   // of the objects that it is asked about
	policy  []*admissionv1.FailurePolicyType
	unmet   string // what becomes of an object without it
	answers []Answer
}

func injectorAnswers(f *Facts, _ Options) outcome {
	q := question{
		webhook: "the sidecar injector", kind: "Pod", answers: f.InjectorAnswers, unmet: "a Pod that asks for a sidecar would be made without one",
	}
	for _, w := range f.Mutating.Value.Webhooks {
		q.names, q.policy = append(q.names, w.Name), append(q.policy, w.FailurePolicy)
	}
	return q.judge(f)
}

func policyAnswers(f *Facts, _ Options) outcome {
	q := question{
		webhook: "the policy validator", kind: "ConfigMap", answers: f.PolicyAnswers, unmet: "a ConfigMap with the label of policies would be made unjudged",
	}
	for _, w := range f.Validating.Value.Webhooks {
		q.names, q.policy = append(q.names, w.Name), append(q.policy, w.FailurePolicy)
	}
	return q.judge(f)
}

// judge goes by the one answer that there is to be. Of several namespaces others did not get as far.
func (q question) judge(f *Facts) outcome {
	if slices.ContainsFunc(q.answers, func(a Answer) bool { return a.Met }) {
		return ok()
	}
	untried := []string{"not asked: there is no namespace to ask in"}
	if len(q.answers) > 0 {
		untried = nil
	}
	var refused *outcome
	for _, a := range q.answers {
		switch {
		case slices.Contains(q.names, a.names(noAnswer)):
			return fail(fmt.Sprintf("the API server gets no answer from %s: %v", q.webhook, a.Err), lostHint(f, a.Err.Error()))
		case slices.Contains(q.names, a.names(denied)):
			o := q.refused(f, a)
			refused = &o
		case a.Err == nil:
			return q.passed(f, a)
		default:
			untried = append(untried, a.untried(q.kind))
		}
	}
	if refused != nil {
		return *refused
	}
	return skip(strings.Join(untried, "; "))
}

// refused is for a webhook that answers with a no: about a Pod for a reason of the Pod or its namespace, or for a fault of its own.
func (q question) refused(f *Facts, a Answer) outcome {
	if q.kind == "Pod" && apierrors.IsForbidden(a.Err) {
		return warn(fmt.Sprintf("%s answers, and refuses a plain Pod in namespace %s: %v", q.webhook, a.Namespace, a.Err),
			"the reason names the remedy; heddle check -n NAMESPACE asks about another namespace")
	}
	return fail(fmt.Sprintf("%s answers, and refuses what is good: %v", q.webhook, a.Err), "it is a fault of the control plane: "+logs(f))
}

// passed is for an object that the API server let pass as if there were no webhook.
func (q question) passed(f *Facts, a Answer) outcome {
	reason := fmt.Sprintf("%s in namespace %s: the API server does not ask %s", q.unmet, a.Namespace, q.webhook)
	if slices.ContainsFunc(q.policy, func(p *admissionv1.FailurePolicyType) bool { return p != nil && *p == admissionv1.Ignore }) {
		reason += ", or gets no answer and keeps the reason to itself (failurePolicy Ignore)"
	}
	return fail(reason, "a moment after the installation that is normal, and heddle check --wait 2m waits; later see whether somebody has changed the webhook's configuration, and "+
		endpoints(f))
}

// lostHint says what to do about a webhook that the API server does not reach.
func lostHint(f *Facts, why string) string {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(why, w) })
	}
	switch {
	case has("x509:", "tls:"):
		return webhookTrust
	case has("no endpoints available", "not found"):
		return "no pod is behind the Service, or there is no Service: " + endpoints(f)
	case has("connection refused", "no route to host", "network is unreachable"):
		return "kube-proxy brings the way to a Service to the API server's node a moment after a pod is ready, and heddle check --wait 2m waits; if it stays so, " + endpoints(f)
	case has("deadline exceeded", "timeout", "timed out"):
		return "let the API server's node through to port 15017 of the control plane's pods: a firewall, a security group or a NetworkPolicy drops it; or the control plane is overloaded: " + logs(f)
	}
	return logs(f)
}

func endpoints(f *Facts) string {
	return "kubectl get endpointslices -n " + f.ControlPlane + " -l kubernetes.io/service-name=" + ServerName + " lists who answers for it"
}

func logs(f *Facts) string {
	return "kubectl logs -n " + f.ControlPlane + " deploy/" + ServerName + " tells more"
}
