package roles

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/deploy"
)

// With these rights the other tests work; with more there would be no test that needs them.
func TestTheChartGrantsEachRoleTheRightsThatTheseTestsHave(t *testing.T) {
	text, err := deploy.Render(deploy.Release{})
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string][]rbacv1.PolicyRule{}
	for _, document := range strings.Split(text, "\n---\n") {
		var r rbacv1.ClusterRole // a Role has the same fields
		if err := yaml.Unmarshal([]byte(document), &r); err != nil {
			t.Fatal(err)
		}
		granted[r.Kind+" "+r.Name] = r.Rules
	}
	for account, want := range map[string]Rights{controlplane.ServerAccount: Server(), controlplane.SignerAccount: Signer()} {
		for kind, rules := range map[string][]rbacv1.PolicyRule{"ClusterRole": want.Cluster, "Role": want.Namespace} {
			if diff := cmp.Diff(flat(rules), flat(granted[kind+" "+account])); diff != "" {
				t.Errorf("%s %s (-tests +chart):\n%s", kind, account, diff)
			}
		}
	}
}

// flat lists single rights, in order.
func flat(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, name := range names {
					for _, verb := range r.Verbs {
						all = append(all, fmt.Sprintf("%s %s.%s/%s", verb, resource, group, name))
					}
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
