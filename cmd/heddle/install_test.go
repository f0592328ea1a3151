package main

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/deploy"
)

// deployments gives those of an installation with values of all kinds, by the role that they run.
func deployments(t *testing.T) map[string]appsv1.Deployment {
	t.Helper()
	values, err := deploy.Values(deploy.Given{Set: []string{
		"proxy.cpuRequest=20m", "proxy.concurrency=2", "proxy.prestopSleep=off", "log.level=debug", "certificateLifetime=6h",
	}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := deploy.Render(deploy.Release{Namespace: "mesh", Values: values})
	if err != nil {
		t.Fatal(err)
	}
	byRole := map[string]appsv1.Deployment{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var d appsv1.Deployment
		if err := yaml.Unmarshal([]byte(document), &d); err == nil && d.Kind == "Deployment" {
			byRole[d.Spec.Template.Spec.Containers[0].Args[2]] = d
		}
	}
	if len(byRole) != 2 {
		t.Fatalf("the chart has Deployments of %d roles, not 2", len(byRole))
	}
	return byRole
}

// A variable that is no flag would be passed over without a word, and the value behind it would have no effect.
func TestServeTakesAllThatTheChartTellsIt(t *testing.T) {
	for role, d := range deployments(t) {
		container := d.Spec.Template.Spec.Containers[0]
		command, rest, err := rootCommand().Find(container.Args)
		if err != nil || command.Name() != "serve" {
			t.Fatalf("role %s runs %v, which is no command: %v", role, container.Args, err)
		}
		if err := command.ParseFlags(rest); err != nil {
			t.Errorf("role %s runs %v: %v", role, container.Args, err)
		}
		given := map[string]string{}
		for _, e := range container.Env {
			given[e.Name] = e.Value
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(e.Name, "HEDDLE_"), "_", "-"))
			if command.Flags().Lookup(flag) == nil {
				t.Errorf("role %s is told %s, and heddle serve has no --%s", role, e.Name, flag)
			}
		}
		lookup := func(name string) (string, bool) { value, ok := given[name]; return value, ok }
		if err := fromEnvironment(command.Flags(), lookup); err != nil {
			t.Errorf("role %s does not take what the chart tells it: %v", role, err)
		}
		for name, value := range given {
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "HEDDLE_"), "_", "-"))
			if f := command.Flags().Lookup(flag); f != nil && flag != "certificate-lifetime" && f.Value.String() != value {
				t.Errorf("role %s is told %s=%s and takes %s", role, name, value, f.Value)
			}
		}
	}
}

// What heddle serve refuses at its start would otherwise be read in the log of a pod that does not come up.
func TestInstallRefusesWhatTheControlPlaneWouldNotStartWith(t *testing.T) {
	for set, want := range map[string]string{
		"proxy.memoryLimit=1Mi":                    "Envoy does not start with less",
		"proxy.cpuRequest=100m,proxy.cpuLimit=50m": "ask for no more than the limit",
	} {
		out, problems, code := heddleIn(t, "", "install", "--set", set)
		if code == 0 || !strings.Contains(problems, want) || out != "" {
			t.Errorf("install --set %s ends with %d and says %q; want %q, and no objects (%d bytes)", set, code, problems, want, len(out))
		}
	}
	if out, problems, code := heddleIn(t, "", "install", "-n", "default"); code != 0 || out == "" || !strings.Contains(problems, "heddle-system is its usual place") {
		t.Errorf("install -n default ends with %d and says %q", code, problems)
	}
}

func TestEachServicePortLeadsToOneThatServeListensAt(t *testing.T) {
	for role, want := range map[string][]int32{"server": {15010, 15017, 15014}, "signer": {15012, 15014}} {
		d := deployments(t)[role]
		container := d.Spec.Template.Spec.Containers[0]
		var have []int32
		for _, p := range container.Ports {
			have = append(have, p.ContainerPort)
		}
		if !slices.Equal(have, want) {
			t.Errorf("role %s has ports %v, not %v", role, have, want)
		}
	}
}
