package check

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/heddle-mesh/heddle/controlplane/api"
)

const enforceLabel = "pod-security.kubernetes.io/enforce"

func configGroup() group {
	behind := []string{"namespace"}
	return group{"heddle-config", []item{
		{"namespace-labels", "control plane namespace has its labels", behind, namespaceLabels},
		{"cluster-roles", "control plane ClusterRoles and their bindings exist", behind, rolesBound},
		{"service-accounts", "control plane ServiceAccounts exist", behind, accountsExist},
		{"services", "control plane Services exist", behind, servicesExist},
		{"mutating-webhook", "mutating webhook configuration exists", behind, mutatingExists},
		{"validating-webhook", "validating webhook configuration exists", behind, validatingExists},
		{"admission-policy", "admission policies hold the control plane to what it may write", behind, policiesHold},
	}}
}

// namespaceLabels looks at Pod Security, and that nothing is injected into the control plane itself.
func namespaceLabels(f *Facts, _ Options) outcome {
	labels := f.Namespace.Value.Labels
	if labels[InjectLabel] == Enabled {
		return fail(fmt.Sprintf("Namespace %s has the label %s=%s: the control plane would wait for itself", f.ControlPlane, InjectLabel, Enabled),
			fmt.Sprintf("kubectl label namespace %s %s=disabled --overwrite", f.ControlPlane, InjectLabel))
	}
	if labels[enforceLabel] != "restricted" {
		return warn(fmt.Sprintf("Namespace %s does not hold its pods to Pod Security restricted (%s=%q)", f.ControlPlane, enforceLabel, labels[enforceLabel]),
			fmt.Sprintf("kubectl label namespace %s %s=restricted --overwrite", f.ControlPlane, enforceLabel))
	}
	return ok()
}

// rolesBound looks for what each account is bound to, by whatever name the chart gave it.
func rolesBound(f *Facts, _ Options) outcome {
	switch {
	case f.Bindings.Err != nil:
		return unread("ClusterRoleBindings", f.Bindings.Err)
	case f.ClusterRoles.Err != nil:
		return unread("ClusterRoles", f.ClusterRoles.Err)
	}
	var wrong []string
	for _, account := range []string{ServerName, SignerName} {
		bound := false
		for _, b := range f.Bindings.Value {
			if !slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool {
				return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == f.ControlPlane && s.Name == account
			}) {
				continue
			}
			bound = true
			if !f.ClusterRoles.Value[b.RoleRef.Name] {
				wrong = append(wrong, fmt.Sprintf("ClusterRoleBinding %s gives a ClusterRole %s that does not exist", b.Name, b.RoleRef.Name))
			}
		}
		if !bound {
			wrong = append(wrong, fmt.Sprintf("no ClusterRoleBinding is for ServiceAccount %s/%s", f.ControlPlane, account))
		}
	}
	return none(wrong, install)
}

func accountsExist(f *Facts, _ Options) outcome {
	return named(f, "ServiceAccount", f.Accounts, ServerName, SignerName, api.ViewAccount, api.TapAccount)
}

func servicesExist(f *Facts, _ Options) outcome {
	return named(f, "Service", f.Services, ServerName, SignerName)
}

func named(f *Facts, kind string, have Fact[map[string]bool], names ...string) outcome {
	if have.Err != nil {
		return unread(kind+"s in namespace "+f.ControlPlane, have.Err)
	}
	var wrong []string
	for _, name := range names {
		if !have.Value[name] {
			wrong = append(wrong, fmt.Sprintf("there is no %s %s/%s", kind, f.ControlPlane, name))
		}
	}
	return none(wrong, install)
}

func mutatingExists(f *Facts, _ Options) outcome {
	switch c := f.Mutating; {
	case c.Err != nil:
		return unread("MutatingWebhookConfiguration "+InjectorWebhook, c.Err)
	case c.Value == nil:
		return fail("there is no MutatingWebhookConfiguration "+InjectorWebhook+": no pod gets a sidecar", install)
	case len(c.Value.Webhooks) == 0:
		return fail("MutatingWebhookConfiguration "+InjectorWebhook+" has no webhooks: no pod gets a sidecar", install)
	}
	var wrong []string
	for _, w := range f.Mutating.Value.Webhooks {
		if !asks(w.Rules, "pods") {
			wrong = append(wrong, fmt.Sprintf("webhook %s of MutatingWebhookConfiguration %s is not asked about new pods: they get no sidecar", w.Name, InjectorWebhook))
		}
	}
	return none(wrong, install)
}

func validatingExists(f *Facts, _ Options) outcome {
	switch c := f.Validating; {
	case c.Err != nil:
		return unread("ValidatingWebhookConfiguration "+PolicyWebhook, c.Err)
	case c.Value == nil || len(c.Value.Webhooks) == 0:
		return fail("there is no ValidatingWebhookConfiguration "+PolicyWebhook+": broken policies are only told of in their status", install)
	}
	var wrong []string
	for _, w := range f.Validating.Value.Webhooks {
		if !asks(w.Rules, "configmaps") {
			wrong = append(wrong, fmt.Sprintf("webhook %s of ValidatingWebhookConfiguration %s is not asked about new ConfigMaps: broken policies are only told of in their status", w.Name, PolicyWebhook))
		}
	}
	return none(wrong, install)
}

// asks says whether rules have the API server ask about new objects of a resource.
func asks(rules []admissionv1.RuleWithOperations, resource string) bool {
	return slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
		return (slices.Contains(r.Operations, admissionv1.Create) || slices.Contains(r.Operations, admissionv1.OperationAll)) &&
			(slices.Contains(r.Resources, resource) || slices.Contains(r.Resources, "*"))
	})
}

// policiesHold looks at what holds the control plane to what it may write, where RBAC cannot.
func policiesHold(f *Facts, _ Options) outcome {
	if f.AdmissionPolicies.Err != nil {
		return unread("ValidatingAdmissionPolicies", f.AdmissionPolicies.Err)
	}
	var wrong []string
	for name, p := range f.AdmissionPolicies.Value {
		if why := p.idle(); why != "" {
			wrong = append(wrong, "ValidatingAdmissionPolicy "+name+" "+why+": the control plane may write more than it should")
		}
	}
	return none(wrong, "apply what is installed once more: heddle upgrade | kubectl apply -f -")
}

// idle says why a policy does not hold anybody to anything; empty if it does.
func (p AdmissionPolicy) idle() string {
	if p.Policy == nil {
		return "does not exist"
	}
	if t := p.Policy.Status.TypeChecking; t != nil && len(t.ExpressionWarnings) > 0 {
		w := t.ExpressionWarnings[0]
		return fmt.Sprintf("has an expression that the API server warns of, %s: %s", w.FieldRef, strings.Join(strings.Fields(w.Warning), " "))
	}
	if len(p.Bindings) == 0 {
		return "has no binding"
	}
	narrow := false
	for _, b := range p.Bindings {
		if !slices.Contains(b.Spec.ValidationActions, admissionv1.Deny) {
			continue
		}
		if b.Spec.MatchResources == nil {
			return ""
		}
		narrow = true
	}
	if narrow {
		return "denies some objects only: its binding has matchResources"
	}
	return "has no binding that denies"
}
