//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestAServerJoinsAndLeavesTheMeshWithoutALostRequest: callers from both sides go on asking meanwhile; then strict mode
// shuts those outside out, and only as long as the server is in the mesh.
func TestAServerJoinsAndLeavesTheMeshWithoutALostRequest(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	ns.applyTown("testdata/turncoat.yaml")
	callers := []string{"client", "plain"}
	for _, pod := range callers {
		ns.eventually(func() error { return ns.askAs("", pod, "http://web") })
	}
	var asking []func() string
	for _, pod := range callers {
		asking = append(asking, ns.asking(pod))
	}
	ns.turn("enabled")
	ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://web") })
	ns.eventually(func() error { return ns.askAs("", "plain", "http://web") })
	ns.turn("disabled")
	ns.eventually(func() error { return ns.askAs("", "client", "http://web") })
	for i, end := range asking {
		met := end()
		var count, status int
		if _, err := fmt.Sscanf(met, "%d %d\n", &count, &status); err != nil || status != 200 || count < 100 || strings.Count(met, "\n") != 1 {
			t.Errorf("%s met, by status (0: none):\n%s; want 200 alone, a hundred times at least", callers[i], met)
		}
		t.Logf("%s met %s", callers[i], met)
	}
	ns.applyText(closedToOthers)
	ns.eventually(func() error { return ns.askAs("", "plain", "http://web") }) // no sidecar, nobody to refuse
	ns.turn("enabled")
	ns.eventually(func() error { return ns.askAs(ns.identity(), "client", "http://web") })
	ns.eventually(func() error {
		if _, err := ns.curl("plain", "http://web"); err == nil {
			return errors.New("a strict server answers plain text")
		}
		return nil
	})
	ns.turn("disabled")
	for _, pod := range callers {
		ns.eventually(func() error { return ns.askAs("", pod, "http://web") })
	}
}

// turn brings the server into the mesh or out of it, and waits until that is done.
func (n *namespace) turn(inject string) {
	n.t.Helper()
	n.kubectl("patch", "deployment", "web", "--type=merge", "-p",
		`{"spec":{"template":{"metadata":{"annotations":{"heddle.dev/inject":"`+inject+`"}}}}}`)
	n.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	n.eventually(func() error {
		pods := n.kubectl("get", "pods", "-l", "app=web", "-o", "name")
		if strings.Count(pods, "\n") != 1 {
			return errors.New("more than one server: " + pods)
		}
		return nil
	})
}

// asking asks from a pod, each time by a connection of its own, until the function that it gives is called, which tells how
// often each status was met.
func (n *namespace) asking(pod string) (end func() string) {
	n.t.Helper()
	const script = `while [ ! -e /tmp/enough ]; do curl -s --max-time 10 -o /dev/null -w '%{http_code}\n' http://web; done | sort | uniq -c`
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*patience)
	n.t.Cleanup(cancel)
	cmd := n.command(ctx, "exec", pod, "-c", "ubuntu", "--", "bash", "-c", script)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	return func() string {
		if _, err := n.bash(pod, "touch /tmp/enough"); err != nil {
			n.t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("ask from %s: %v: %s", pod, err, said.String())
		}
		return out.String()
	}
}
