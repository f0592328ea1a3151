//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAStrictNamespaceTakesNoPlainTextAndItsProbesPass(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	text, err := os.ReadFile("testdata/strict.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ns.applyText(string(text))
	for _, pod := range []string{"server", "client", "plain", "hooked"} {
		ns.wait("pod/"+pod, "condition=Ready")
	}
	ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://server") })
	ns.eventually(func() error { return ns.askAs("", "client", "http://plain") })
	v4, v6 := ns.addresses("server")
	urls := []string{"http://server", "http://" + v4 + ":8080"}
	if v6 != "" {
		urls = append(urls, "http://"+net.JoinHostPort(v6, "8080"))
	}
	for _, url := range urls {
		ns.eventually(func() error {
			got, err := ns.curl("plain", url)
			switch {
			case err == nil:
				t.Errorf("%s in plain text is answered with %q", url, got)
			case strings.Contains(err.Error(), "exit code 7"): // kube-proxy does not know the Service's pod yet
				return err
			case !strings.Contains(err.Error(), "exit code 56") && !strings.Contains(err.Error(), "exit code 52"):
				t.Errorf("%s in plain text: %v; want the connection closed", url, err)
			}
			return nil
		})
	}
	for _, load := range []string{"http://server", "tcp://server:9000", "grpc://server:9001"} {
		out := ns.kubectl("exec", "client", "-c", "beside", "--", "/testapp", "load", "--rate=50", "--for=1s", "--url="+load)
		if !strings.Contains(out, `"failed":0`) || strings.Contains(out, `"sent":0,`) {
			t.Errorf("%s: %s", load, out)
		}
	}
	ns.probed()
	ns.hooked()
}

// hooked wants the hooks of a pod to have been run: a container whose postStart fails is started anew, and a preStop that
// fails is an event.
func (n *namespace) hooked() {
	n.t.Helper()
	pod, err := env.client.CoreV1().Pods(n.name).Get(n.t.Context(), "hooked", metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.RestartCount > 0 {
			n.t.Errorf("container %s was started %d times; its hook is refused", c.Name, c.RestartCount+1)
		}
	}
	n.kubectl("delete", "pod", "hooked") // waits for it
	events := n.kubectl("get", "events", "--field-selector=involvedObject.name=hooked", "-o", "jsonpath={range .items[*]}{.reason} {end}")
	if !strings.Contains(events, "Killing") || strings.Contains(events, "FailedPostStartHook") || strings.Contains(events, "FailedPreStopHook") {
		n.t.Errorf("events of the pod with hooks: %s", events)
	}
}

// probed wants no container to have been restarted by its probes, and the pod whose probe must fail not to be ready.
func (n *namespace) probed() {
	n.t.Helper()
	server, err := env.client.CoreV1().Pods(n.name).Get(n.t.Context(), "server", metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range server.Status.ContainerStatuses {
		if !c.Ready || c.RestartCount > 0 {
			n.t.Errorf("container %s is ready: %v, after %d restarts; its probes cannot reach it", c.Name, c.Ready, c.RestartCount)
		}
	}
	n.eventually(func() error {
		events, err := n.try("get", "events", "--field-selector=involvedObject.name=sick,reason=Unhealthy", "-o", "name")
		if err == nil && events == "" {
			err = errors.New("no probe of the pod sick has failed yet")
		}
		return err
	})
	sick, err := env.client.CoreV1().Pods(n.name).Get(n.t.Context(), "sick", metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	if ready(*sick) {
		n.t.Error("the pod whose probe nobody answers is ready")
	}
}

// TestTwoNamespacesWithTheSameNamesHaveNothingInCommon: what one is told in policies, and who it is, is not the other's.
func TestTwoNamespacesWithTheSameNamesHaveNothingInCommon(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	open, closed := env.namespace(t), env.namespace(t)
	for _, ns := range []*namespace{open, closed} {
		ns.applyTown("testdata/twin.yaml")
		ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://web") })
	}
	closed.applyText(closedToOthers)
	for _, ns := range []*namespace{open, closed} {
		for range 10 {
			if err := ns.askAs(ns.identity(), "client", "http://web"); err != nil {
				t.Errorf("in %s: %v", ns.name, err)
			}
		}
	}
	closed.eventually(func() error { // the policy has come
		_, err := open.curl("client", "http://web."+closed.name)
		if err == nil || !strings.Contains(err.Error(), "403") {
			return fmt.Errorf("web of the closed namespace answers the other's client: %v", err)
		}
		return nil
	})
	if err := open.askAs(open.identity(), "client", "http://web."+open.name); err != nil {
		t.Errorf("the open namespace, from within: %v", err)
	}
	if err := closed.askAs(closed.identity(), "client", "http://web."+open.name); err != nil {
		t.Errorf("the open namespace: %v", err)
	}
	if err := closed.askAs(closed.identity(), "client", "http://web"); err != nil {
		t.Errorf("the closed namespace, from within: %v", err)
	}
}

const closedToOthers = `
apiVersion: v1
kind: ConfigMap
metadata: {name: access, labels: {heddle.dev/policy: "true"}}
data:
  namespace.yaml: |
    kind: Access
    mtls: strict
    default: same-namespace
`
