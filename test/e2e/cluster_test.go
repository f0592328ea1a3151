//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEveryNodeIsReady(t *testing.T) {
	env.used.Add(1)
	nodes, err := env.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) == 0 {
		t.Fatal("the cluster has no node")
	}
	for _, node := range nodes.Items {
		ready := false
		for _, condition := range node.Status.Conditions {
			ready = ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		if !ready {
			t.Errorf("node %s is not ready: %+v", node.Name, node.Status.Conditions)
		}
	}
}

func TestAPodAnswersThroughItsServiceByName(t *testing.T) {
	t.Parallel()
	ns := env.namespace(t)
	ns.apply("testdata/http-echo.yaml")
	ns.apply("testdata/ubuntu.yaml")
	ns.wait("deployment/http-echo", "condition=Available")
	ns.wait("pod/ubuntu", "condition=Ready")
	// The Service comes to the node a moment after its pods are ready.
	got := ns.exec("ubuntu", "curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://http-echo")
	if want := "Hello from http-echo\n"; got != want {
		t.Errorf("curl http://http-echo printed %q, want %q", got, want)
	}
}

func TestAJobCompletes(t *testing.T) {
	t.Parallel()
	ns := env.namespace(t)
	ns.apply("testdata/job.yaml")
	ns.wait("job/once", "condition=Complete")
	if got := ns.kubectl("logs", "job/once"); strings.TrimSpace(got) != "done" {
		t.Errorf("the Job's log is %q, want done", got)
	}
}

func TestAJobCompletesBesideASidecarThatNeverEnds(t *testing.T) {
	t.Parallel()
	ns := env.namespace(t)
	ns.apply("testdata/sidecar-job.yaml")
	ns.wait("job/beside", "condition=Complete")
	if got := ns.kubectl("logs", "job/beside", "--container=app"); strings.TrimSpace(got) != "beside" {
		t.Errorf("the Job's app has from its sidecar %q, want beside", got)
	}
}

func TestPodSecurityRefusesWhatItsNamespaceForbids(t *testing.T) {
	t.Parallel()
	ns := env.namespace(t, "pod-security.kubernetes.io/enforce=restricted")
	if out, err := ns.try("apply", "-f", "testdata/ubuntu.yaml"); err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("a pod that runs as root got into a restricted namespace: %s, %v", out, err)
	}
}

func TestAPodWhoseNamespaceForbidsRedirectionIsRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t, "pod-security.kubernetes.io/enforce=baseline", "heddle.dev/inject=enabled")
	out, err := ns.try("apply", "-f", "testdata/ubuntu.yaml")
	for _, want := range []string{
		"namespace " + ns.name + ` enforces the Pod Security Standard "baseline", which forbids NET_ADMIN`,
		"kubectl label namespace " + ns.name + " pod-security.kubernetes.io/enforce=privileged --overwrite",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("applying the pod says %s, %v; want it refused with %q", out, err, want)
		}
	}
}

func TestEachProtocolPassesBetweenPods(t *testing.T) {
	t.Parallel()
	ns := env.namespace(t)
	ns.apply("testdata/protocols.yaml")
	ns.wait("pod/servers", "condition=Ready")
	ns.wait("pod/client", "condition=Ready")
	for _, load := range [][]string{
		{"--url=http://servers", "--want=hi"},
		{"--url=http://servers", "--want=hi", "--protocol=http2"},
		{"--url=grpc://servers:9001"},
		{"--url=tcp://servers:9000"},
	} {
		// The Service comes to the node a moment after its pods are ready.
		ns.eventually(func() error {
			r, err := ns.load("client", append(load, "--rate=20", "--for=1s")...)
			if err == nil && (r.Sent == 0 || r.Failed > 0) {
				err = fmt.Errorf("%v: %+v", load, r)
			}
			return err
		})
	}
	for _, protocol := range []string{"udp", "tcp"} {
		if got := ns.exec("client", "/testapp", "resolve", "--name=servers."+ns.name+".svc.cluster.local.", "--protocol="+protocol); !strings.Contains(got, `"10.`) {
			t.Errorf("DNS over %s says %s", protocol, got)
		}
	}
}
