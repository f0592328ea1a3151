//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/test/images"
)

func TestJobsFinishInTheMesh(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	ns.apply("testdata/meshed-server.yaml")
	ns.wait("pod/server", "condition=Ready")
	ns.apply("testdata/meshed-jobs.yaml")
	ns.wait("job/once", "condition=Complete")
	ns.callsOf("once", "first", "call")

	ns.wait("cronjob/often", "jsonpath={.status.lastSuccessfulTime}")
	ns.callsOf("often", "call")
}

// callsOf wants that a pod of a Job has its sidecar, and that each of its containers has called without a failure.
func (n *namespace) callsOf(job string, containers ...string) {
	n.t.Helper()
	pods := strings.Fields(n.kubectl("get", "pods", "-l", "heddle.dev/sidecar=true,made-by="+job, "--field-selector=status.phase=Succeeded", "-o", "name"))
	if len(pods) == 0 {
		n.t.Fatalf("no pod of %s with a sidecar has succeeded", job)
	}
	for _, c := range containers {
		var r report
		said := n.kubectl("logs", pods[0], "-c", c)
		if err := json.Unmarshal([]byte(said), &r); err != nil || r.Sent == 0 || r.Failed > 0 {
			n.t.Errorf("container %s of %s says %q, want a count without failures (%v)", c, pods[0], said, err)
		}
	}
}

func TestTrafficHealsAfterEnvoyCrashes(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	ns.apply("testdata/protocols.yaml")
	ns.wait("pod/servers", "condition=Ready")
	ns.wait("pod/client", "condition=Ready")
	for _, pod := range []string{"servers", "client"} {
		before := ns.process(pod)
		ns.besideSidecar(pod, `for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = envoy ] && kill -KILL ${p#/proc/}; done`)
		ns.eventually(func() error {
			if now := ns.process(pod); now == before || now == "" {
				return fmt.Errorf("the sidecar of %s has not been started anew: it is %q", pod, now)
			}
			return nil
		})
		ns.wait("pod/"+pod, "condition=Ready")
		for _, load := range []string{"--url=http://servers", "--url=grpc://servers:9001", "--url=tcp://servers:9000"} {
			ns.eventually(func() error {
				r, err := ns.load("client", load, "--rate=20", "--for=1s")
				if err == nil && (r.Sent == 0 || r.Failed > 0) {
					err = fmt.Errorf("after the Envoy of %s has crashed: %s: %+v", pod, load, r)
				}
				return err
			})
		}
		if got := ns.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[*].restartCount}"); strings.Trim(got, " 0") != "" {
			t.Errorf("with its Envoy, the containers of %s were started anew: %s", pod, got)
		}
	}
}

// process is the sidecar of a pod, another one after each start; empty while it does not run.
func (n *namespace) process(pod string) string {
	n.t.Helper()
	return n.kubectl("get", "pod", pod, "-o",
		`jsonpath={range .status.initContainerStatuses[?(@.name=="heddle-proxy")]}{range .state.running}{.startedAt}{end}{end}`)
}

// besideSidecar runs a script in a container that sees the processes of a pod's sidecar, and gives what it printed.
func (n *namespace) besideSidecar(pod, script string) string {
	n.t.Helper()
	var name string
	n.eventually(func() error { // a pod takes no second one under a name
		before := n.kubectl("get", "pod", pod, "-o", "jsonpath={.spec.ephemeralContainers[*].name}")
		name = fmt.Sprintf("look-%d", len(strings.Fields(before)))
		_, err := n.try("debug", pod, "--profile=general", "--image="+images.Ubuntu, "--image-pull-policy=IfNotPresent",
			"--target=heddle-proxy", "--container="+name, "--", "bash", "-c", script)
		return err
	})
	n.eventually(func() error {
		state := n.kubectl("get", "pod", pod, "-o", fmt.Sprintf(`jsonpath={.status.ephemeralContainerStatuses[?(@.name=="%s")].state}`, name))
		if !strings.Contains(state, "terminated") {
			return fmt.Errorf("container %s of %s: %s", name, pod, state)
		}
		return nil
	})
	return n.kubectl("logs", pod, "-c", name)
}
