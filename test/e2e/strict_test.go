//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
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
	for _, pod := range []string{"server", "client", "plain", "hooked", "secure"} {
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
	ns.probedOverTLS()
	ns.hooked()
}

// probedOverTLS wants the kubelet to do what an application that speaks HTTPS alone answers its probes.
func (n *namespace) probedOverTLS() {
	n.t.Helper()
	if got, err := n.curl("client", "-k", "https://secure/health/live"); err != nil || got != "200\n" {
		n.t.Errorf("over its Service, the application that speaks HTTPS answers %q, %v", got, err)
	}
	says := func(what string) {
		n.t.Helper()
		// In the pod itself: a Service has no pods that are not ready.
		if _, err := n.curl("secure", "-k", "https://127.0.0.1:8443/health/"+what); err != nil {
			n.t.Fatal(err)
		}
	}
	says("ready/503")
	n.wait("pod/secure", "condition=Ready=false")
	n.unhealthy("secure", "Readiness probe failed: HTTP probe failed with statuscode: 503")
	if restarts := n.restarts("secure", "https"); restarts > 0 {
		n.t.Errorf("an application that is not ready was started %d times", restarts+1)
	}
	says("ready/200")
	n.wait("pod/secure", "condition=Ready")
	says("live/503")
	n.eventually(func() error {
		if n.restarts("secure", "https") == 0 {
			return errors.New("an application that is not live is not started anew")
		}
		return nil
	})
	n.unhealthy("secure", "Liveness probe failed: HTTP probe failed with statuscode: 503")
	n.wait("pod/secure", "condition=Ready")
	for _, other := range []string{"ubuntu", "heddle-proxy"} {
		if restarts := n.restarts("secure", other); restarts > 0 {
			n.t.Errorf("beside the application that was not live, %s was started %d times", other, restarts+1)
		}
	}
}

// unhealthy waits for an event by which the kubelet says that a probe has failed, and how.
func (n *namespace) unhealthy(pod, how string) {
	n.t.Helper()
	n.eventually(func() error {
		events, err := n.try("get", "events", "--field-selector=reason=Unhealthy,involvedObject.name="+pod, "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
		if err == nil && !strings.Contains(events, how) {
			err = fmt.Errorf("no event of pod %s says %q, but: %q", pod, how, events)
		}
		return err
	})
}

// restarts is how often a container of a pod was started again.
func (n *namespace) restarts(pod, container string) int32 {
	n.t.Helper()
	p, err := env.client.CoreV1().Pods(n.name).Get(n.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.Name == container {
			return c.RestartCount
		}
	}
	n.t.Fatalf("pod %s has no container %s", pod, container)
	return 0
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
