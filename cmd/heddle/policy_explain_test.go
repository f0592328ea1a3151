package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/policy"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

func TestACodeIsExplainedToThoseWhoMayReadTheConfigMap(t *testing.T) {
	server := kubetest.New()
	t.Cleanup(server.Close)
	namespace := server.Namespace(t)
	for _, c := range []*corev1.ConfigMap{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "access", Labels: map[string]string{policy.Label: "true"}},
			Data: map[string]string{
				"deny.yaml": "kind: Access\naction: deny\nrules: [{from: [evil/x]}]\n",
				"notes.txt": "kind: Access\naction: deny\nrules: [{from: [evil/x]}]\n",
			},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "unlabelled"}, Data: map[string]string{"deny.yaml": "kind: Access\nrules: []\n"}},
	} {
		if _, err := server.Client(t).CoreV1().ConfigMaps(namespace).Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	admin := kubetest.KubeconfigOf(t, server.Config(t), "default")
	tom := kubetest.KubeconfigOf(t, server.Certified(t, "tom"), namespace) // without any right
	code := policy.Place{Namespace: namespace, ConfigMap: "access", Key: "deny.yaml"}.RuleCode("rules[0]")
	for _, c := range []struct {
		name string
		args []string
		exit int
		says string
	}{
		{"in its namespace", []string{code, "--kubeconfig", admin, "-n", namespace}, 0, "\nConfigMap " + namespace + "/access, deny.yaml: denies calls of all pods in namespace " + namespace + "\n  rules[0]: from evil/x\n"},
		{"in all", []string{code, "--kubeconfig", admin, "-A"}, 0, code + ": a rule that denies matched\n"},
		{"not in another", []string{code, "--kubeconfig", admin}, 1, code + " is of no policy in namespace default (-A looks in all)"},
		{"not in another key", []string{policy.Place{Namespace: namespace, ConfigMap: "access", Key: "notes.txt"}.RuleCode("rules[0]"), "--kubeconfig", admin, "-A"}, 1, " is of no policy in the cluster"},
		{"not in another ConfigMap", []string{policy.UnmatchedCode([]policy.Place{{Namespace: namespace, ConfigMap: "unlabelled", Key: "deny.yaml"}}), "--kubeconfig", admin, "-A"}, 1, " is of no policy in the cluster"},
		{"tom may not read it", []string{code, "--kubeconfig", tom}, 1, `User "tom" cannot list resource "configmaps"`},
		{"the default is nobody's", []string{"HDA-default", "--kubeconfig", admin, "-n", namespace}, 0, "hint: no document in namespace " + namespace + " (-A looks in all) says a default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exit, stdout, stderr := typed(append([]string{"policy", "explain"}, c.args...)...)
			if both := stdout + stderr; exit != c.exit || !strings.Contains(both, c.says) {
				t.Errorf("exit status %d; want %d and %q in:\n%s", exit, c.exit, c.says, both)
			}
		})
	}
}
