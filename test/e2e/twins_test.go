//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

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
	closed.refusal(open, "GET", "HDA-default", "namespace.yaml: default same-namespace for all pods in namespace "+closed.name)
	closed.refusal(closed, "DELETE", "", "deny.yaml: denies calls of pods app=web in namespace "+closed.name, "rules[0]", "from "+closed.name+"/default")
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
  deny.yaml: |
    kind: Access
    workload: {app: web}
    action: deny
    rules:
    - from: [NAMESPACE/default]
      methods: [DELETE]
`

// refusal wants a call of web to be refused, one line in the log of its sidecar to tell people so, with the code that the caller
// was told, and that code to lead to what stands behind it. Any code will do if none is given.
func (n *namespace) refusal(caller *namespace, method, code string, explained ...string) {
	n.t.Helper()
	path := "/asked-by-" + caller.name
	told, err := caller.bash("client", "curl -sS --max-time 10 -o /dev/null -w '%{http_code} %header{x-heddle-access}' -X "+method+" http://web."+n.name+path)
	got, ok := strings.CutPrefix(told, "403 ")
	if err != nil || !ok || code != "" && got != code {
		n.t.Errorf("%s of %s from %s is answered with %q, %v; want 403 and code %q", method, path, caller.name, told, err, code)
		return
	}
	type line struct{ Access, Code, From, Method, Path, Message string }
	var lines []line
	n.eventually(func() error { // it comes a moment after the answer
		lines = nil
		log, err := n.try("logs", "web", "-c", "heddle-proxy")
		if err != nil {
			return err
		}
		for text := range strings.Lines(log) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && l.Path == path {
				lines = append(lines, l)
			}
		}
		if len(lines) == 0 {
			return errors.New("the log of web's sidecar has no line of the call that was refused")
		}
		return nil
	})
	if want := (line{"refused", got, caller.identity(), method, path, "access denied"}); len(lines) != 1 || lines[0] != want {
		n.t.Errorf("the log of web's sidecar has %+v, want %+v alone", lines, want)
	}
	person{newShell(n.t, repository(n.t)), n.t}.prints("heddle policy explain "+got+" -n "+n.name,
		append(explained, got, "ConfigMap "+n.name+"/access")...)
}
