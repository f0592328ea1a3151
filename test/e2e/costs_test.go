//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/heddle-mesh/heddle/test/images"
)

// TestTheMeshCostsAPodLittle prints what docs/benchmarks.md says of pods. Its bounds are wide: machines are shared.
func TestTheMeshCostsAPodLittle(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t)
	const pods = 9
	var without, with []time.Duration
	for i := range pods { // in turn, so that both meet the same load
		without = append(without, ns.startup(fmt.Sprintf("without-%d", i), "disabled"))
		with = append(with, ns.startup(fmt.Sprintf("with-%d", i), "enabled"))
	}
	added := median(with) - median(without)
	t.Logf("start-up of %d pods each, p50: %v without, %v with the mesh, %v added", pods, median(without), median(with), added)
	if added > 5*time.Second {
		t.Errorf("the mesh adds %v to the start of a pod", added)
	}
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2].Round(10 * time.Millisecond)
}

// startup gives the time from the request for a pod until it is ready, and removes it.
func (n *namespace) startup(name, inject string) time.Duration {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	pods := env.client.CoreV1().Pods(n.name)
	events, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		n.t.Fatal(err)
	}
	defer events.Stop()
	began := time.Now()
	_, err = pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"heddle.dev/inject": inject}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers:                    []corev1.Container{{Name: "app", Image: images.TestApp, Args: []string{"-listen=:80"}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	took := untilReady(n.t, events, began)
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		n.t.Fatal(err)
	}
	return took
}

func untilReady(t *testing.T, events watch.Interface, began time.Time) time.Duration {
	t.Helper()
	for e := range events.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			t.Fatalf("wait for a pod to be ready: %+v", e.Object)
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return time.Since(began)
			}
		}
	}
	t.Fatal("the pod is not ready")
	return 0
}

// TestASidecarNeedsLittleMemory prints what docs/benchmarks.md says of sidecars. Its bounds are wide: Envoy's memory depends
// on how many listeners and clusters the cluster's other Services make.
func TestASidecarNeedsLittleMemory(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	ns.apply("testdata/protocols.yaml")
	ns.wait("pod/servers", "condition=Ready")
	ns.wait("pod/client", "condition=Ready")
	ns.memory("idle")

	type result struct {
		report
		err error
	}
	loaded := make(chan result)
	go func() {
		r, err := ns.load("client", "--url=http://servers", "--want=hi", "--rate=500", "--for=15s")
		loaded <- result{r, err}
	}()
	ns.memory("at 500 requests a second")
	r := <-loaded
	if r.err != nil || r.Failed > 0 {
		t.Errorf("under load: %+v, %v", r.report, r.err)
	}
	t.Logf("%d requests in %.0f s, p50 %.1f ms, p99 %.1f ms", r.Sent, r.Seconds, r.P50, r.P99)
	ns.memory("after it")
}

// memory prints the resident memory of the sidecars of testdata/protocols.yaml.
func (n *namespace) memory(when string) {
	n.t.Helper()
	for _, pod := range []string{"servers", "client"} {
		said := n.besideSidecar(pod, `for p in /proc/[0-9]*; do echo $(cat $p/comm) $(grep VmRSS $p/status); done`)
		seen := map[string]int{}
		for line := range strings.Lines(said) {
			f := strings.Fields(line) // envoy VmRSS: 65000 kB
			if len(f) != 4 {
				continue
			}
			kilobytes, err := strconv.Atoi(f[2])
			if err != nil {
				n.t.Fatalf("memory of %s: %q: %v", pod, line, err)
			}
			seen[f[0]] += kilobytes
		}
		envoy, agent := seen["envoy"], seen["heddle-sidecar"]
		n.t.Logf("%s, %s: Envoy %d kB, agent %d kB", pod, when, envoy, agent)
		if envoy == 0 || envoy > 250_000 || agent == 0 || agent > 80_000 {
			n.t.Errorf("%s, %s: Envoy takes %d kB and the agent %d kB; seen was %q", pod, when, envoy, agent, said)
		}
	}
}
