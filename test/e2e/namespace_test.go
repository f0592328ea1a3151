//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/test/secrets"
)

// patience is how long anything may take that normally takes seconds: machines are shared.
const patience = 3 * time.Minute

// namespace is a test's own.
type namespace struct {
	t    *testing.T
	name string
}

// namespace makes a namespace for a test, and removes it with all that is in it when the test ends. Labels are given as
// "key=value".
func (e *environment) namespace(t *testing.T, labels ...string) *namespace {
	t.Helper()
	e.used.Add(1)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "heddle-e2e-", Labels: map[string]string{}}}
	for _, label := range labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			t.Fatalf("label %q is not key=value", label)
		}
		ns.Labels[key] = value
	}
	made, err := e.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	n := &namespace{t, made.Name}
	t.Cleanup(n.remove)
	return n
}

// remove starts the removal of the namespace; what is in it is seen first if the test failed, and looked through for
// secrets anyway.
func (n *namespace) remove() {
	n.keepSecrets()
	if n.t.Failed() {
		n.t.Logf("namespace %s:\n%s", n.name, n.describe())
	}
	background := metav1.DeletePropagationBackground
	err := env.client.CoreV1().Namespaces().Delete(context.Background(), n.name, metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil {
		n.t.Errorf("remove namespace %s: %v", n.name, err)
	}
}

// keepSecrets fails the test if there is a key or a token in what the namespace's pods and the control plane have said.
func (n *namespace) keepSecrets() {
	scan := secrets.New(n.t)
	for _, where := range []string{n.name, "heddle-system"} {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own has ended
		defer cancel()
		pods, err := env.client.CoreV1().Pods(where).List(ctx, metav1.ListOptions{})
		if err != nil {
			n.t.Errorf("look for secrets in the logs of %s: %v", where, err)
			continue
		}
		for _, pod := range pods.Items {
			for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
				text, err := env.client.CoreV1().Pods(where).GetLogs(pod.Name, &corev1.PodLogOptions{Container: c.Name}).DoRaw(ctx)
				if err != nil && c.State.Waiting == nil && !apierrors.IsNotFound(err) {
					n.t.Errorf("look for secrets in the log of %s/%s, container %s: %v", where, pod.Name, c.Name, err)
				}
				scan.Look(fmt.Sprintf("the log of %s/%s, container %s", where, pod.Name, c.Name), text)
			}
		}
		events, err := env.client.CoreV1().Events(where).List(ctx, metav1.ListOptions{})
		if err != nil {
			n.t.Errorf("look for secrets in the events of %s: %v", where, err)
			continue
		}
		for _, e := range events.Items {
			scan.Look("an event of "+where, []byte(e.Message))
		}
	}
}

// describe says what is in the namespace, what happened there, and how the logs of its containers end.
func (n *namespace) describe() string {
	var all strings.Builder
	for _, args := range [][]string{
		{"get", "all,endpointslices", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
	} {
		out, err := n.command(context.Background(), args...).CombinedOutput()
		fmt.Fprintf(&all, "%s", out)
		if err != nil {
			fmt.Fprintf(&all, "%v\n", err)
		}
	}
	pods, err := env.client.CoreV1().Pods(n.name).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return all.String() + err.Error()
	}
	for _, pod := range pods.Items {
		out, err := n.command(context.Background(), "logs", pod.Name, "--all-containers", "--prefix", "--tail=40").CombinedOutput()
		fmt.Fprintf(&all, "--- logs of pod %s\n%s", pod.Name, out)
		if err != nil {
			fmt.Fprintf(&all, "%v\n", err)
		}
	}
	return all.String()
}

// command gives a kubectl command that is not started.
func (n *namespace) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, env.kubectl, append([]string{"--namespace", n.name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.kubeconfig)
	return cmd
}

// try runs kubectl, and gives what it printed.
func (n *namespace) try(args ...string) (stdout string, err error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	var out, said bytes.Buffer
	cmd := n.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String(), nil
}

// kubectl runs kubectl, which must succeed, and gives what it printed.
func (n *namespace) kubectl(args ...string) string {
	n.t.Helper()
	out, err := n.try(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// apply applies manifests from a file.
func (n *namespace) apply(file string) {
	n.t.Helper()
	n.kubectl("apply", "-f", file)
}

// wait waits until something is as told: condition=Available, jsonpath={.status.phase}=Succeeded.
func (n *namespace) wait(what, until string) {
	n.t.Helper()
	n.kubectl("wait", what, "--for="+until, "--timeout="+patience.String())
}

// exec runs a command in a pod, which must succeed, and gives what it printed.
func (n *namespace) exec(pod string, command ...string) string {
	n.t.Helper()
	return n.kubectl(append([]string{"exec", pod, "--"}, command...)...)
}

// report is what the load client of the tests' image says.
type report struct {
	Sent     int            `json:"sent"`
	OK       int            `json:"ok"`
	Failed   int            `json:"failed"`
	Failures map[string]int `json:"failures"` // by reason
	Seconds  float64        `json:"seconds"`
	P50      float64        `json:"p50ms"`
	P99      float64        `json:"p99ms"`
	Max      float64        `json:"maxms"`
	Ends     []streamEnd    `json:"ends"`
}

// streamEnd is how a TCP stream of the load client ended before the load did.
type streamEnd struct {
	Server string    `json:"server"` // as it greeted
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// load runs the load client in a pod of the tests' image until it ends by itself: give it --for.
func (n *namespace) load(pod string, args ...string) (r report, err error) {
	n.t.Helper()
	out, err := n.try(append([]string{"exec", pod, "--", "/testapp", "load"}, args...)...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return r, fmt.Errorf("read what the load client says, %q: %w", out, err)
	}
	return r, nil
}

// eventually tries something until it succeeds.
func (n *namespace) eventually(try func() error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			n.t.Fatalf("not within %v: %v", patience, err)
		case <-tick.C:
		}
	}
}
