package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/test/roles"
)

// The tests of the roles run under rights that are written down there. The chart must give those, and for what other tests
// hold, these and no more.
func TestTheChartGivesTheRightsThatTheRolesAreTestedWith(t *testing.T) {
	signer, server := roles.Signer(), roles.Server()
	server.Cluster = append(server.Cluster,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}},                           // injection
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"patch"}},                         // status of policies
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},                   // the same
		rbacv1.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}}, // the API
	)
	for _, c := range []struct {
		kind, name string
		want       []rbacv1.PolicyRule
	}{
		{"ClusterRole", "heddle", server.Cluster}, {"Role", "heddle", server.Namespace},
		{"ClusterRole", "heddle-signer", signer.Cluster}, {"Role", "heddle-signer", signer.Namespace},
	} {
		if diff := cmp.Diff(single(c.want), single(rules(t, c.kind, c.name))); diff != "" {
			t.Errorf("%s %s (-tested +chart):\n%s", c.kind, c.name, diff)
		}
	}
}

// rules gives those of a role of the chart.
func rules(t *testing.T, kind, name string) []rbacv1.PolicyRule {
	t.Helper()
	for _, d := range documents(render(t, "")) {
		var role rbacv1.ClusterRole // a Role has the same fields
		if err := yaml.Unmarshal([]byte(d), &role); err != nil {
			continue // another kind
		}
		if role.Kind == kind && role.Name == name {
			return role.Rules
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// single takes rules apart into single rights, in order.
func single(all []rbacv1.PolicyRule) []string {
	set := map[string]bool{}
	for _, r := range all {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, name := range names {
					for _, verb := range r.Verbs {
						set[strings.Join([]string{group, resource, name, verb}, " ")] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}
