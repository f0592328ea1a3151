package roles

import rbacv1 "k8s.io/api/rbac/v1"

// Rights are what a role may do: everywhere, and in the control plane's own namespace.
type Rights struct{ Cluster, Namespace []rbacv1.PolicyRule }

// Signer gives the rights of ServiceAccount heddle-signer.
func Signer() Rights {
	return Rights{
		Cluster: []rbacv1.PolicyRule{
			rule("", "pods", nil, "list", "watch"),
			rule("authentication.k8s.io", "tokenreviews", nil, "create"),
			rule("", "configmaps", []string{"heddle-trust"}, "create", "patch"), // an apply says its name even when it creates
		},
		Namespace: []rbacv1.PolicyRule{
			rule("", "secrets", nil, "create"),
			rule("", "secrets", []string{"heddle-ca"}, "get", "update"),
			rule("", "configmaps", nil, "create"),
			rule("", "configmaps", []string{"heddle-trust"}, "get", "update", "delete"),
			rule("coordination.k8s.io", "leases", nil, "create"),
			rule("coordination.k8s.io", "leases", []string{"heddle-signer"}, "get", "update"),
		},
	}
}

// Server gives the rights of ServiceAccount heddle.
func Server() Rights {
	return Rights{
		Cluster: []rbacv1.PolicyRule{
			rule("", "services", nil, "list", "watch"),
			rule("", "pods", nil, "list", "watch"),
			rule("", "namespaces", nil, "get", "list", "watch"),
			rule("", "nodes", nil, "list", "watch"),
			rule("", "configmaps", nil, "list", "watch", "patch"), // of policies: their status, and an admission policy allows no more
			rule("", "events", nil, "create", "patch"),
			rule("authentication.k8s.io", "tokenreviews", nil, "create"), // of who asks by the command line
			rule("discovery.k8s.io", "endpointslices", nil, "list", "watch"),
			rule("apps", "controllerrevisions", nil, "get", "list", "create", "update", "delete"),
			rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", []string{"heddle-injector"}, "get", "list", "watch", "patch"),
			rule("admissionregistration.k8s.io", "validatingwebhookconfigurations", []string{"heddle-policy"}, "get", "list", "watch", "patch"),
		},
		Namespace: []rbacv1.PolicyRule{
			rule("coordination.k8s.io", "leases", nil, "create"),
			rule("coordination.k8s.io", "leases", []string{"heddle-writer"}, "get", "update"),
		},
	}
}

func rule(group, resource string, names []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names, Verbs: verbs}
}
