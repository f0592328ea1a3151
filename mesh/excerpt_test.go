package mesh

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// trial is what a State says of a policy before it is there.
func trial(s *State, name, text string) []PolicyStatus {
	p := aPolicy(name, text)
	return s.Excerpt(NamespacesOf(p)).Try(p)
}

func codes(list []PolicyStatus) (all []policy.Code) {
	for _, s := range list {
		for _, p := range s.Problems {
			all = append(all, p.Code)
		}
	}
	return all
}

func TestATrialSaysWhatBecomesOfAPolicyOnceItIsApplied(t *testing.T) {
	facts := []any{
		aService("shop/catalog", "10.96.0.1"), aService("pay/api", "10.96.0.2"), aPolicy("shop/first", good),
		aPod("shop/a", "10.1.0.1"), aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1")),
	}
	for name, text := range map[string]string{
		"good":             "kind: Traffic\nservice: catalog\nidleTimeout: 2s\n",
		"broken":           broken,
		"conflict":         better,
		"unknown Service":  "kind: Traffic\nservice: catalgo\ntimeout: 2s\n",
		"unknown target":   "kind: Traffic\nservice: catalog\nroutes: [{name: a, to: [{service: nobody}]}]\n",
		"another's target": "kind: Traffic\nservice: catalog\nroutes: [{name: a, to: [{service: pay/api, port: 81}]}]\n",
		"another's policy": "kind: Traffic\nservice: pay/api\nloadBalancer: {locality: prefer}\n",
		"unknown subset":   "kind: Traffic\nservice: catalog\nroutes: [{name: a, to: [{service: catalog, subset: {v: x}}]}]\n",
		"access":           "kind: Access\nservice: nobody\nrules: []\n",
		"never good":       "kind: Access\nservcie: catalog\nrules: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := meshOf(facts...)
			before := s.Policies()
			got := trial(s, "shop/zz", text)
			if diff := cmp.Diff(before, s.Policies()); diff != "" {
				t.Errorf("the trial changed the mesh (-before +after):\n%s", diff)
			}
			s.Apply(events(aPolicy("shop/zz", text)))
			if diff := cmp.Diff([]PolicyStatus{statusOf(s, "shop/zz")}, got); diff != "" {
				t.Errorf("the trial (-what became of it +trial):\n%s", diff)
			}
		})
	}
}

func TestATrialOfWhatProxiesRefusedSaysWhy(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))
	s.Apply(events(aPolicy("shop/p", better)))
	hash := statusOf(s, "shop/p").Hash
	s.Apply([]model.Event{{Refused: &model.Refusal{Policy: key("shop/p"), Item: statusOf(s, "shop/p").Item, Hash: hash, Reason: "too odd"}}})
	s.Apply(events(aPolicy("shop/p", best)))
	got := trial(s, "shop/p", better)
	want(t, "codes", codes(got), []policy.Code{policy.CodeRefused})
	if m := got[0].Problems[0].Message; !strings.Contains(m, "too odd") {
		t.Errorf("the problem is %q, which does not say why", m)
	}
	want(t, "accepted", got[0].Accepted, false)
	want(t, "problems of another version", codes(trial(s, "shop/p", good)), nil)
}

func TestATrialReadsOnlyTheNamespacesThatThePolicySpeaksOf(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("pay/api", "10.96.0.2"), aPolicy("pay/p", good), aPod("pay/a", "10.1.0.9"))
	p := aPolicy("shop/p", better)
	e := s.Excerpt(NamespacesOf(p))
	want(t, "facts", len(e.events), 1)
}

func TestATrialKnowsWhatADeletedServiceSelected(t *testing.T) {
	s := meshOf(aService("shop/web", "10.96.0.1", targeting(8080, "")), aPod("shop/a", "10.1.0.1"), aPolicy("shop/p", webAccess))
	s.Apply(gone(aService("shop/web", "10.96.0.1")))
	tried := trial(s, "shop/p", webAccess+"# edited\n")
	s.Apply(events(aPolicy("shop/p", webAccess+"# edited\n")))
	want(t, "statuses", tried, s.Policies())
	want(t, "what it says", strings.Contains(tried[0].Problems[0].Message, "there is no Service shop/web any more"), true)
}
