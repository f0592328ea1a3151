package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// What an installation needs.
const (
	MinimumKubernetes = "1.30.0" // native sidecars and webhooks' matchConditions
	MinimumKubectl    = "1.30.0"
)

func apiGroup() group {
	return group{"kubernetes-api", []item{
		{"client", "can initialize the client", nil, func(f *Facts, _ Options) outcome {
			if f.Client != nil {
				return fail(f.Client.Error(), "name a kubeconfig with --kubeconfig, or a context with --context")
			}
			return ok()
		}},
		{"api-query", "can query the Kubernetes API", []string{"client"}, func(f *Facts, _ Options) outcome {
			if f.Server.Err != nil {
				return fail(f.Server.Err.Error(), cmp.Or(hintOf(f.Server.Err), "see that it answers: kubectl version"))
			}
			return ok()
		}},
	}}
}

func versionGroup() group {
	return group{"kubernetes-version", []item{
		{"kubernetes-version", "is running the minimum Kubernetes API version", []string{"api-query"}, func(f *Facts, _ Options) outcome {
			return atLeast("the API server", f.Server.Value, MinimumKubernetes, Failed, "upgrade the cluster: sidecars need native sidecar containers, which are stable from then on")
		}},
		{"kubectl-version", "is running the minimum kubectl version", nil, func(f *Facts, _ Options) outcome {
			switch {
			case f.Kubectl.Err != nil:
				return skip("kubectl does not say its version: " + f.Kubectl.Err.Error())
			case f.Kubectl.Value == "":
				return skip("there is no kubectl on the path")
			}
			return atLeast("kubectl", f.Kubectl.Value, MinimumKubectl, Warned, "upgrade kubectl")
		}},
	}}
}

func atLeast(what, has, minimum string, otherwise Status, hint string) outcome {
	v, err := version.ParseGeneric(has)
	if err != nil {
		return warn(fmt.Sprintf("%s says that its version is %q, which is none", what, has), "see that it is "+minimum+" or later")
	}
	if v.LessThan(version.MustParseGeneric(minimum)) {
		return outcome{otherwise, fmt.Sprintf("%s is %s, and %s is needed", what, has, minimum), hint}
	}
	return ok()
}

// Needs are the rights that an installation takes, into a namespace.
func Needs(namespace string) []Right {
	kinds := []struct {
		group, resource string
		namespaced      bool
	}{
		{"", "namespaces", false},
		{"rbac.authorization.k8s.io", "clusterroles", false},
		{"rbac.authorization.k8s.io", "clusterrolebindings", false},
		{"admissionregistration.k8s.io", "mutatingwebhookconfigurations", false},
		{"admissionregistration.k8s.io", "validatingwebhookconfigurations", false},
		{"admissionregistration.k8s.io", "validatingadmissionpolicies", false},
		{"admissionregistration.k8s.io", "validatingadmissionpolicybindings", false},
		{"", "serviceaccounts", true},
		{"", "services", true},
		{"", "configmaps", true},
		{"apps", "deployments", true},
		{"rbac.authorization.k8s.io", "roles", true},
		{"rbac.authorization.k8s.io", "rolebindings", true},
		{"policy", "poddisruptionbudgets", true},
	}
	var all []Right
	for _, k := range kinds {
		r := Right{Verb: "create", Group: k.group, Resource: k.resource}
		if k.namespaced {
			r.Namespace = namespace
		}
		all = append(all, r)
	}
	return all
}

func preGroup(f *Facts) group {
	g := group{name: "heddle-pre"}
	for _, r := range f.Rights {
		g.items = append(g.items, item{"can-create-" + r.Resource, "can create " + r.Resource, []string{"api-query"}, r.judge})
	}
	g.items = append(g.items,
		item{"no-leftovers", "no earlier installation is in the way", []string{"api-query"}, leftovers},
		item{"net-admin", "pods may get the capability that redirects traffic", []string{"api-query"}, netAdmin})
	return g
}

func (r Right) judge(*Facts, Options) outcome {
	where := ""
	if r.Namespace != "" {
		where = " in namespace " + r.Namespace
	}
	switch {
	case r.Err != nil:
		return fail(fmt.Sprintf("cannot ask whether you may %s %s%s: %v", r.Verb, r.Resource, where, r.Err), hintOf(r.Err))
	case !r.Allowed:
		reason := fmt.Sprintf("you may not %s %s%s", r.Verb, r.Resource, where)
		if r.Reason != "" {
			reason += ": " + r.Reason
		}
		return fail(reason, "install as somebody who is bound to cluster-admin")
	}
	return ok()
}

func leftovers(f *Facts, _ Options) outcome {
	if f.Leftovers.Err != nil {
		return unread("what is installed", f.Leftovers.Err)
	}
	if len(f.Leftovers.Value) > 0 {
		return fail("there is "+few(f.Leftovers.Value), "heddle check tells whether it works, heddle upgrade renews it, and heddle uninstall | kubectl delete -f - removes it")
	}
	return ok()
}

func netAdmin(f *Facts, _ Options) outcome {
	var refused, untried []string
	for namespace, err := range f.NetAdmin {
		if err != nil {
			refused = append(refused, fmt.Sprintf("namespace %s: %v", namespace, err))
		}
	}
	for namespace, why := range f.Untried {
		untried = append(untried, fmt.Sprintf("namespace %s: %s", namespace, why))
	}
	switch {
	case len(refused) > 0:
		return fail(few(refused), "let the namespace have such pods: kubectl label namespace NAME pod-security.kubernetes.io/enforce=privileged --overwrite; there is no other way to redirect traffic yet")
	case len(untried) > 0:
		slices.Sort(untried)
		if len(f.NetAdmin) > 0 {
			return warn("it could not be tried in "+strings.Join(untried, "; "), "what was tried elsewhere went through; heddle check --pre -n NAMESPACE tries one namespace")
		}
		return skip(strings.Join(untried, "; "))
	}
	return ok()
}
