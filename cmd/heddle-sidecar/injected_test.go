package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/injector"
)

// injected gives the containers that injection adds to a pod with annotations.
func injected(annotations map[string]string) (sidecar, init corev1.Container) {
	annotations[injector.InjectKey] = injector.Enabled
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	r := must(injector.Patch(pod, injector.Options{Image: "heddle-proxy:1.0", Seed: "seed", TrustDomain: "mesh.example"}))
	return r.Pod.Spec.InitContainers[0], r.Pod.Spec.InitContainers[1]
}

func TestTheAgentUnderstandsWhatInjectionTellsIt(t *testing.T) {
	c, _ := injected(map[string]string{
		"heddle.dev/workload-api": "enabled", "heddle.dev/proxy-concurrency": "4", "heddle.dev/drain-time": "90s", "heddle.dev/proxy-log-level": "warning",
	})
	expand := strings.NewReplacer("$(HEDDLE_NAMESPACE)", "shop", "$(HEDDLE_SERVICE_ACCOUNT)", "web", "$(HEDDLE_POD)", "web-1")
	var args []string
	for _, a := range c.Args {
		args = append(args, expand.Replace(a))
	}
	s := defaults()
	flags := s.flags(io.Discard)
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		t.Fatalf("%q: %v, %q", args, err, flags.Args())
	}
	s.noEnvoy = true // there is none here
	o, err := s.options(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.ID.String() != "spiffe://mesh.example/ns/shop/sa/web" || s.pod != "web-1" {
		t.Errorf("it is %s, pod %s", o.ID, s.pod)
	}
	if s.concurrency != 4 || s.drain != 90*time.Second || s.envoyLog != "warning" || s.logLevel != "warn" || o.WorkloadMode != 0o666 {
		t.Errorf("what people set does not arrive: %+v", s)
	}
}

func TestTheInitContainerUnderstandsWhatInjectionTellsItAndAsksTheAgentBesideIt(t *testing.T) {
	sidecar, init := injected(map[string]string{"heddle.dev/skip-inbound-ports": "22,8000-8010", "heddle.dev/skip-outbound-cidrs": "10.9.0.0/16"})
	var s initSettings
	flags := s.flags(io.Discard)
	if err := flags.Parse(init.Args); err != nil || !slices.Equal(flags.Args(), []string{"init"}) {
		t.Fatalf("%q: %v, %q", init.Args, err, flags.Args())
	}
	o, err := s.options()
	if err != nil || len(o.SkipInboundPorts) != 2 || len(o.SkipOutboundCIDRs) != 1 {
		t.Errorf("it skips %+v, %v", o, err)
	}
	asks, err := s.agent(init.Env[0].Value)
	if want := fmt.Sprintf("http://127.0.0.1:%d%s", injector.AgentPort, sidecar.ReadinessProbe.HTTPGet.Path); err != nil || asks != want || init.Env[0].Name != prefixVariable {
		t.Errorf("it asks %s, %v; want %s", asks, err, want)
	}

	agent := defaults()
	if err := agent.flags(io.Discard).Parse(sidecar.Args); err != nil || !agent.redirected {
		t.Errorf("the agent uses the network before the init container has redirected it: %q, %v", sidecar.Args, err)
	}
	hook := sidecar.Lifecycle.PostStart.Exec.Command
	if len(hook) != 3 || hook[1] != "started" || checkAddress(hook[2]) != nil || !strings.HasPrefix(asks, "http://"+hook[2]+"/") {
		t.Errorf("the hook of its start is %q", hook)
	}
}

func TestTheAgentAnswersTheKubeletBeforeItGivesUp(t *testing.T) {
	c, _ := injected(map[string]string{})
	if timeout := time.Duration(c.ReadinessProbe.TimeoutSeconds) * time.Second; patience+500*time.Millisecond > timeout {
		t.Errorf("the answer may wait for %s, and the readiness probe ends after %s", patience, timeout)
	}
}

func TestWithoutAnnotationsTheAgentHasItsOwnDefaults(t *testing.T) {
	c, _ := injected(map[string]string{})
	s, own := defaults(), defaults()
	if err := s.flags(io.Discard).Parse(c.Args); err != nil {
		t.Fatal(err)
	}
	if s.concurrency != own.concurrency || s.drain != own.drain || s.envoyLog != own.envoyLog || s.logLevel != own.logLevel || s.workloadAPI != "" {
		t.Errorf("it has %+v", s)
	}
}
