//go:build e2e

package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

// snap is a folder like that of the MicroK8s snap, as far as add-ons use it: its kubectl speaks to the tests' API server.
type snap struct {
	dir   string
	addon string // folder of the add-on
}

func newSnap(t *testing.T) snap {
	t.Helper()
	programs, err := kubetest.InstallAll(t.Context(), kubetest.InstallOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	kubectl := programs.Path("kubectl") // in the place of MicroK8s's wrapper of it
	addon, err := filepath.Abs("microk8s/addons/heddle")
	if err != nil {
		t.Fatal(err)
	}
	s := snap{t.TempDir(), addon}
	s.wrapper(t, "microk8s-kubectl.wrapper", `exec "`+kubectl+`" --kubeconfig "`+api.Kubeconfig(t)+`" "$@"`)
	s.wrapper(t, "microk8s-enable.wrapper", `echo "enabled $*" >> "$SNAP/enabled"`)
	return s
}

func (s snap) wrapper(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte("#!/bin/sh\nset -eu\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// run runs enable or disable as MicroK8s does: by its path, with all arguments in one.
func (s snap) run(t *testing.T, script string, arguments ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.addon, script), arguments...)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "SNAP="+s.dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	return said.String(), err
}

func (s snap) must(t *testing.T, script string, arguments ...string) string {
	t.Helper()
	said, err := s.run(t, script, arguments...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", script, arguments, err, said)
	}
	return said
}

func TestAddonIsEnabledTwiceAndDisabledTwice(t *testing.T) {
	s, c := newSnap(t), newCluster(t)
	replicas := func() (all []int32) {
		list, err := c.client.AppsV1().Deployments("heddle-system").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list.Items {
			all = append(all, *d.Spec.Replicas)
		}
		return all
	}
	s.must(t, "enable")
	if got := replicas(); len(got) != 2 || got[0] != 1 || got[1] != 1 {
		t.Errorf("enabled with replicas %v, not two Deployments of 1", got)
	}
	if enabled, err := os.ReadFile(filepath.Join(s.dir, "enabled")); err != nil || !strings.Contains(string(enabled), "enabled dns") {
		t.Errorf("the add-on dns was not enabled before: %s %v", enabled, err)
	}
	for line := range strings.Lines(s.must(t, "enable")) {
		if strings.Contains(line, "configured") || strings.Contains(line, "created") || strings.Contains(line, "Warning") {
			t.Errorf("enabled again, kubectl says: %s", line)
		}
	}
	s.must(t, "enable", "ha")
	if got := replicas(); len(got) != 2 || got[0] != 3 || got[1] != 3 {
		t.Errorf("enabled with ha, replicas are %v, not two Deployments of 3", got)
	}
	s.must(t, "disable")
	if got := replicas(); len(got) > 0 {
		t.Errorf("disabled, there still are Deployments with %v replicas", got)
	}
	hooks, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(hooks.Items) > 0 {
		t.Errorf("disabled, there still are webhooks: %v %v", hooks.Items, err)
	}
	if _, err := c.client.CoreV1().Namespaces().Get(t.Context(), "heddle-system", metav1.GetOptions{}); err != nil {
		t.Errorf("disabling took the namespace, and the CA with it: %v", err)
	}
	s.must(t, "disable")
}

func TestAddonRefusesWhatItDoesNotKnow(t *testing.T) {
	s := newSnap(t)
	if said, err := s.run(t, "enable", "three"); err == nil || !strings.Contains(said, `unknown argument "three"`) {
		t.Errorf("enable three: %v\n%s", err, said)
	}
	s.wrapper(t, "microk8s-kubectl.wrapper", `[ "$1" = get ] && echo '{"major": "1", "minor": "29"}' || echo "applied"`)
	if said, err := s.run(t, "enable"); err == nil || !strings.Contains(said, "Kubernetes 1.29 is too old") || strings.Contains(said, "applied") {
		t.Errorf("enable on Kubernetes 1.29: %v\n%s", err, said)
	}
	s.wrapper(t, "microk8s-kubectl.wrapper", `[ "$1" = get ] && echo '{"major": "1", "minor": "36+"}' || { echo "no rights" >&2; exit 3; }`)
	if said, err := s.run(t, "enable"); err == nil || !strings.Contains(said, "no rights") || strings.Contains(said, "is starting") {
		t.Errorf("enable without rights: %v\n%s", err, said)
	}
}

// As microk8s status and microk8s enable read it.
func TestAddonIsListedAsMicroK8sWantsIt(t *testing.T) {
	text, err := os.ReadFile("microk8s/addons.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		MicroK8s struct {
			Description string
			Addons      []struct {
				Name, Description, Version string
				CheckStatus                string   `json:"check_status"`
				SupportedArchitectures     []string `json:"supported_architectures"`
			}
		} `json:"microk8s-addons"`
	}
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.MicroK8s.Addons) != 1 {
		t.Fatalf("%d add-ons, not 1", len(list.MicroK8s.Addons))
	}
	a := list.MicroK8s.Addons[0]
	if a.CheckStatus != "deployment.apps/heddle" || len(a.SupportedArchitectures) != 2 || a.Description == "" {
		t.Errorf("the add-on is listed as %+v", a)
	}
	for _, script := range []string{"enable", "disable"} {
		info, err := os.Stat(filepath.Join("microk8s/addons", a.Name, script))
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", script, err)
		}
	}
}
