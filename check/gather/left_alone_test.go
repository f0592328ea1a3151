package gather

import (
	"maps"
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/heddle-mesh/heddle/check"
)

func TestPodsThatTheInjectorLeavesAloneAreNotMissed(t *testing.T) {
	excluding := func(names ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: names,
		}}}
	}
	hooks := &admissionv1.MutatingWebhookConfiguration{Webhooks: []admissionv1.MutatingWebhook{
		{NamespaceSelector: excluding("tools", "mesh")}, {NamespaceSelector: excluding("tools", "half")},
	}}
	rule := asking{system: "mesh", hooks: hooks, enabled: map[string]bool{}}
	for _, name := range []string{"shop", "tools", "half", "mesh", "kube-system"} {
		rule.enabled[name] = true
	}
	for name, c := range map[string]struct {
		namespace string
		change    func(*corev1.Pod)
		missed    bool
	}{
		"one like others":                         {"shop", func(*corev1.Pod) {}, true},
		"one that asks by itself":                 {"plain", func(p *corev1.Pod) { p.Annotations = map[string]string{check.InjectLabel: "enabled"} }, true},
		"one that nobody asks for":                {"plain", func(*corev1.Pod) {}, false},
		"one that says no":                        {"shop", func(p *corev1.Pod) { p.Annotations = map[string]string{check.InjectLabel: "disabled"} }, false},
		"one on Windows":                          {"shop", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, false},
		"one that is static":                      {"shop", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, false},
		"one on its node's network":               {"shop", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, false},
		"one that has ended":                      {"shop", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, false},
		"one of kube-system":                      {"kube-system", func(*corev1.Pod) {}, false},
		"one of the control plane's namespace":    {"mesh", func(*corev1.Pod) {}, false},
		"one of an excluded namespace":            {"tools", func(*corev1.Pod) {}, false},
		"one of a namespace that one entry takes": {"half", func(*corev1.Pod) {}, true},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: c.namespace}}
		c.change(pod)
		if got := rule.wants(pod); got != c.missed {
			t.Errorf("%s is missed: %v, not %v", name, got, c.missed)
		}
	}
}

// A namespace on its way out takes no pods, which says nothing of the cluster.
func TestANamespaceThatEndsIsNotTried(t *testing.T) {
	namespace := func(name string, ends *metav1.Time) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{check.InjectLabel: check.Enabled}, DeletionTimestamp: ends, Finalizers: []string{"a/b"},
		}}
	}
	ends := metav1.Now()
	for _, c := range []struct {
		there []*corev1.Namespace
		want  []string
	}{
		{[]*corev1.Namespace{namespace("old", &ends), namespace("shop", nil)}, []string{"shop"}},
		{[]*corev1.Namespace{namespace("old", &ends)}, []string{"default"}},
	} {
		client := fake.NewClientset()
		for _, n := range c.there {
			if err := client.Tracker().Add(n); err != nil {
				t.Fatal(err)
			}
		}
		g := &gatherer{client: client, facts: &check.Facts{}}
		g.netAdmin(t.Context())
		if tried := slices.Sorted(maps.Keys(g.facts.NetAdmin)); !slices.Equal(tried, c.want) || len(g.facts.Untried) > 0 {
			t.Errorf("tried in %v, not %v; not tried: %v", tried, c.want, g.facts.Untried)
		}
	}
}
