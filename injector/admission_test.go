package injector

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

var api = kubetest.New()

func TestMain(m *testing.M) { os.Exit(api.Main(m)) }

// heard are the warnings of an API server.
type heard struct {
	mu       sync.Mutex
	warnings []string
}

func (h *heard) HandleWarningHeader(_ int, _ string, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings = append(h.warnings, text)
}

// admission is a namespace of a real API server that warns of all that Pod Security baseline forbids.
type admission struct {
	client    kubernetes.Interface
	namespace string
	heard     *heard
}

func newAdmission(t *testing.T) *admission {
	t.Helper()
	config, h := api.Config(t), &heard{}
	config.WarningHandler = h
	a := &admission{client: must(kubernetes.NewForConfig(config)), namespace: api.Namespace(t), heard: h}
	ns := must(a.client.CoreV1().Namespaces().Get(t.Context(), a.namespace, metav1.GetOptions{}))
	ns.Labels["pod-security.kubernetes.io/warn"] = "baseline"
	must(a.client.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{}))
	api.Account(t, a.namespace, "web")
	return a
}

func (a *admission) create(t *testing.T, pod *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	return a.client.CoreV1().Pods(a.namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

func TestARealAPIServerAdmitsEveryPodThatIsInjected(t *testing.T) {
	a := newAdmission(t)
	admitted := 0
	for _, path := range must(filepath.Glob("testdata/*.txtar")) {
		for _, f := range must(txtar.ParseFile(path)).Files {
			if f.Name != "pod.yaml" {
				continue
			}
			r := must(Patch(podOf(t, f.Data), options(nil)))
			if r.Outcome != Injected {
				continue
			}
			if _, err := a.create(t, r.Pod); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			admitted++
		}
	}
	if admitted < 10 {
		t.Errorf("only %d pods were tried", admitted)
	}
}

func TestOfPodSecurityBaselineAnInjectedPodLacksNothingButNetAdmin(t *testing.T) {
	a := newAdmission(t)
	r := must(Patch(podOf(t, []byte("metadata: {name: web}\nspec: {containers: [{name: app, image: app}]}")), options(nil)))
	if _, err := a.create(t, r.Pod); err != nil {
		t.Fatal(err)
	}
	want := `would violate PodSecurity "baseline:latest": non-default capabilities (container "heddle-init" must not include "NET_ADMIN" in securityContext.capabilities.add)`
	if len(a.heard.warnings) != 1 || a.heard.warnings[0] != want {
		t.Errorf("the API server warns of %q, want of %q alone", a.heard.warnings, want)
	}
}

func TestOurContainersGetNoTokenForTheKubernetesAPI(t *testing.T) {
	a := newAdmission(t)
	r := must(Patch(podOf(t, []byte("metadata: {name: web}\nspec: {containers: [{name: app, image: app}]}")), options(nil)))
	pod, err := a.create(t, r.Pod)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, c := range containers(&pod.Spec) {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, "kube-api-access") {
				has[c.Name] = true
			}
		}
	}
	if !has["app"] || has[InitContainer] || has[SidecarContainer] {
		t.Errorf("these have one: %v; want the application alone", has)
	}
}
