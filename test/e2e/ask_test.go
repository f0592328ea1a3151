//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// seen is what a server of the tests' image says of a request.
type seen struct {
	Protocol string              `json:"protocol"`
	Host     string              `json:"host"`
	From     string              `json:"from"`
	Headers  map[string][]string `json:"headers"`
}

// caller is the identity that the server's sidecar has seen; "" without mutual TLS.
func (s seen) caller() string {
	_, id, _ := strings.Cut(strings.Join(s.Headers["X-Forwarded-Client-Cert"], ","), "URI=")
	return id
}

// curl asks once from a pod, and gives what was answered with status 200. Nothing is tried again.
func (n *namespace) curl(pod string, args ...string) (string, error) {
	n.t.Helper()
	return n.try(append([]string{"exec", pod, "-c", "ubuntu", "--", "curl", "-sSf", "--max-time", "10"}, args...)...)
}

// ask is curl of a server that says what it saw.
func (n *namespace) ask(pod string, args ...string) (s seen, err error) {
	n.t.Helper()
	out, err := n.curl(pod, args...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// askAs is ask, and wants a caller of that identity to have been seen.
func (n *namespace) askAs(identity, pod string, args ...string) error {
	n.t.Helper()
	s, err := n.ask(pod, args...)
	if err == nil && s.caller() != identity {
		err = fmt.Errorf("curl %q from %s: the server saw a caller %q, want %q: %+v", args, pod, s.caller(), identity, s)
	}
	return err
}

// identity is that of the namespace's default account.
func (n *namespace) identity() string { return "spiffe://cluster.local/ns/" + n.name + "/sa/default" }

// bash runs a script in a pod.
func (n *namespace) bash(pod, script string) (string, error) {
	n.t.Helper()
	return n.try("exec", pod, "-c", "ubuntu", "--", "bash", "-c", script)
}

// applyText applies a manifest in which NAMESPACE stands for the namespace's name, and each first of a pair for the second.
func (n *namespace) applyText(manifest string, pairs ...string) {
	n.t.Helper()
	text := strings.NewReplacer(append(pairs, "NAMESPACE", n.name)...).Replace(manifest)
	file := n.t.TempDir() + "/manifest.yaml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.apply(file)
}

// applyTown applies a file with pods that call each other, and waits until all are ready.
func (n *namespace) applyTown(file string, pairs ...string) {
	n.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	n.applyText(string(text), pairs...)
	n.eventually(func() error { return n.unready() })
}

// unready names a pod that is not ready.
func (n *namespace) unready() error {
	pods, err := env.client.CoreV1().Pods(n.name).List(n.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return fmt.Errorf("there is no pod in %s", n.name)
	}
	for _, pod := range pods.Items {
		if !ready(pod) {
			return fmt.Errorf("pod %s is not ready", pod.Name)
		}
	}
	return nil
}

func ready(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// addresses gives a pod's address of each family; "" for one that the cluster does not have.
func (n *namespace) addresses(pod string) (v4, v6 string) {
	n.t.Helper()
	p, err := env.client.CoreV1().Pods(n.name).Get(n.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, ip := range p.Status.PodIPs {
		if net.ParseIP(ip.IP).To4() != nil {
			v4 = ip.IP
		} else {
			v6 = ip.IP
		}
	}
	return v4, v6
}
