package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/check"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// typed runs a command line.
func typed(args ...string) (code int, stdout, stderr string) {
	var out, err transcript.Buffer
	code = run(args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

// One API server for all of this: a cluster with two users, one of whom may do little.
func TestCommandsAgainstARealAPIServer(t *testing.T) {
	server := kubetest.New()
	t.Cleanup(server.Close)
	namespace := server.Namespace(t)
	for name, labels := range map[string]map[string]string{"meshed": {"heddle.dev/sidecar": "true"}, "bare": nil} {
		if _, err := server.Client(t).CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	admin := kubetest.KubeconfigOf(t, server.Config(t), namespace)
	tom := kubetest.KubeconfigOf(t, server.Certified(t, "tom"), namespace) // by a client certificate, and without any right
	vic := kubetest.KubeconfigOf(t, server.Limited(t, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}), namespace)

	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an installation would go through", []string{"check", "--pre", "--kubeconfig", admin, "-n", namespace}, 0, "√ can create clusterroles\n"},
		{"it ends so", []string{"check", "--pre", "--kubeconfig", admin, "-n", namespace}, 0, "\nStatus check results are √\n"},
		{"for tom it would not", []string{"check", "--pre", "--kubeconfig", tom}, 1, "× can create namespaces\n    you may not create namespaces\n    hint: install as somebody who is bound to cluster-admin (check can-create-namespaces)\n"},
		{"there is nothing yet", []string{"check", "--kubeconfig", admin, "--latest", ""}, 1, "× control plane namespace exists\n    there is no Namespace heddle-system\n    hint: install it: heddle install | kubectl apply -f - (check namespace)\n"},
		{"tom may not even look", []string{"check", "--kubeconfig", tom, "--latest", ""}, 1, `User "tom" cannot get resource "namespaces"`},
		{"waiting ends in time", []string{"check", "--kubeconfig", admin, "--latest", "", "--wait", "10ms"}, 1, "Status check results are ×\n"},
		{"there is no control plane", []string{"proxy", "status", "--kubeconfig", admin}, 1, "heddle: read the trust bundle, ConfigMap heddle-system/heddle-trust: there is none: is Heddle installed there? heddle check tells"},
		{"tom may not reach it", []string{"proxy", "status", "--kubeconfig", tom}, 1, "have somebody bind you a Role there that gets configmaps, lists pods and creates pods/portforward"},
		{"tom may not read logs", []string{"proxy", "logs", "meshed", "--kubeconfig", tom}, 1, "have somebody bind you a Role that gets pods/log"},
		{"there is no such pod", []string{"proxy", "logs", "none", "--kubeconfig", admin}, 1, "heddle: read the log of the sidecar of pod " + namespace + "/none: there is no such pod; kubectl get pods -n " + namespace},
		{"a pod without a sidecar", []string{"proxy", "logs", "bare", "--kubeconfig", admin}, 1, "container heddle-proxy is not valid for pod bare; heddle proxy status -n " + namespace + " lists the pods with sidecars"},
		{"pods are offered to the shell", []string{"__complete", "proxy", "config", "--kubeconfig", vic, ""}, 0, "meshed\n:4\n"},
		{"namespaces too", []string{"__complete", "check", "--kubeconfig", admin, "-n", ""}, 0, "\n" + namespace + "\n"},
		{"and nothing to who may list nothing", []string{"__complete", "check", "--kubeconfig", tom, "-n", ""}, 0, ":4\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := typed(c.args...)
			if both := "\n" + stdout + stderr; code != c.code || !strings.Contains(both, c.says) {
				t.Errorf("exit status %d; want %d and %q in:\n%s", code, c.code, c.says, both)
			}
		})
	}
	if _, stdout, _ := typed("__complete", "proxy", "logs", "--kubeconfig", admin, ""); strings.Contains(stdout, "bare") {
		t.Errorf("a pod without a sidecar is offered:\n%s", stdout)
	}
}

func TestAReportForScriptsHasStableNamesAndMarks(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	code, stdout, _ := typed("check", "--latest", "", "-o", "json", "--at", "+45d")
	var r check.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if code != 1 || r.Success || r.Status != check.Failed || r.At.Sub(r.Now).Hours() < 44*24 {
		t.Errorf("exit status %d, %+v", code, r)
	}
	if got := r.Failures(); len(got) != 1 || got[0].Name != "client" || got[0].Hint == "" {
		t.Errorf("failed are %+v", got)
	}
}

func TestTheLatestReleaseIsAskedForOnce(t *testing.T) {
	asked := 0
	var answer func(w http.ResponseWriter)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; answer(w) }))
	t.Cleanup(s.Close)
	f := checkFlags{latest: s.URL}
	for want, reply := range map[string]func(http.ResponseWriter){
		"v9":                      func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"tag_name":"v9"}`) },
		"answers 404 Not Found":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"does not name a release": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `[]`) },
	} {
		answer, asked = reply, 0
		ask := once(f.latestVersion)
		for range 2 {
			got, err := ask(t.Context())
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, want) {
				t.Errorf("got %q; want %q in it", got, want)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	}
}

func TestALinkOfKubectlsNameIsThisProgram(t *testing.T) {
	for argv0, want := range map[string][]string{
		"/usr/bin/heddle":                  {"proxy", ""},
		"/usr/bin/kubectl-heddle":          {"proxy", ""},
		"/usr/bin/kubectl_complete-heddle": {"__complete", "proxy", ""},
		`kubectl_complete-heddle.exe`:      {"__complete", "proxy", ""},
	} {
		if got := arguments([]string{argv0, "proxy", ""}); !slices.Equal(got, want) {
			t.Errorf("%s gives %q; want %q", argv0, got, want)
		}
	}
}
