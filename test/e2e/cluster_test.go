//go:build e2e

package e2e

import (
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
