//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"
)

func TestAnApplicationThatAskedForTheWorkloadAPIHasItsOwnIdentity(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	ns := env.namespace(t)
	ns.applyTown("testdata/spiffe.yaml")
	v4, v6 := ns.addresses("server")
	call := func(pod, address, expect string) (string, error) {
		return ns.try("exec", pod, "-c", "app", "--", "/spiffe-app", "--call=https://"+net.JoinHostPort(address, "8443")+"/", "--expect="+expect)
	}
	caller := "spiffe://cluster.local/ns/" + ns.name + "/sa/caller"
	addresses := []string{v4}
	if v6 != "" {
		addresses = append(addresses, v6)
	}
	for _, address := range addresses {
		if got, err := call("caller", address, ns.identity()); err != nil || !strings.Contains(got, "hello "+caller) {
			t.Errorf("%s answers %q, %v; want a greeting of %s", address, got, err, caller)
		}
	}
	if got, err := call("caller", v4, caller); err == nil {
		t.Errorf("a server is taken for another than it is: %q", got)
	}
	if got, err := call("other", v4, ns.identity()); err == nil {
		t.Errorf("the server lets in another account than it allows: %q", got)
	}
	if got, err := ns.bash("without", "echo socket=$SPIFFE_ENDPOINT_SOCKET; ls /run/heddle-workload-api 2>/dev/null; true"); err != nil || got != "socket=\n" {
		t.Errorf("a pod that did not ask for the Workload API has %q, %v", got, err)
	}
}
