//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// controlPlane is the namespace of Heddle itself, which no test removes.
func controlPlane(t *testing.T) *namespace { return &namespace{t, "heddle-system"} }

func TestNoRequestFailsWhileTheControlPlaneIsReplaced(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	system, shell := controlPlane(t), newShell(t, repository(t))
	f := ns.traffic()

	system.kubectl("rollout", "restart", "deployment/heddle", "deployment/heddle-signer")
	ns.restart("server") // needs the webhook, and certificates, meanwhile
	system.rolledOut("heddle", "heddle-signer")

	upgrade := "heddle upgrade --set server.podAnnotations.e2e=%[1]s --set signer.podAnnotations.e2e=%[1]s | kubectl apply -f -"
	if out, err := shell.run(t.Context(), fmt.Sprintf(upgrade, ns.name)); err != nil {
		t.Fatalf("upgrade: %v\n%s", err, out)
	}
	ns.restart("client")
	system.rolledOut("heddle", "heddle-signer")
	if got := system.kubectl("get", "deployment", "heddle", "-o", "jsonpath={.spec.template.metadata.annotations.e2e}"); got != ns.name {
		t.Errorf("after the upgrade the template's annotation is %q, want %q", got, ns.name)
	}
	ns.restart("server")
	f.end(5_000)
}

func TestWithoutAControlPlaneWhatRunsGoesOn(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	outside := env.namespace(t)
	system := controlPlane(t)
	f := ns.traffic()

	back := system.away("heddle", "heddle-signer")
	began := f.sent()

	outside.apply("testdata/ubuntu.yaml")
	outside.wait("pod/ubuntu", "condition=Ready")

	ns.apply("testdata/http-echo.yaml")
	ns.eventually(func() error {
		events, err := ns.try("get", "events", "--field-selector=reason=FailedCreate", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(events, `failed calling webhook "namespace.inject.heddle.dev"`) {
			err = fmt.Errorf("no event tells why there is no pod: %q", events)
		}
		return err
	})
	if got := ns.kubectl("get", "pods", "-l", "app=http-echo", "-o", "name"); got != "" {
		t.Errorf("without a control plane there is %s, which has no sidecar", got)
	}
	ns.eventually(func() error { // clients go on meanwhile
		if n := f.sent() - began; n < 2_000 {
			return fmt.Errorf("%d requests without a control plane", n)
		}
		return nil
	})
	back()
	ns.wait("deployment/http-echo", "condition=Available")
	if got := ns.kubectl("get", "pods", "-l", "app=http-echo", "-o", "jsonpath={.items[*].metadata.labels.heddle\\.dev/sidecar}"); got != "true" {
		t.Errorf("the pod that waited for the control plane has the label %q, want true", got)
	}
	f.end(2_000)
}

// away takes Deployments to no replicas, until back is called or the test ends.
func (n *namespace) away(deployments ...string) (back func()) {
	n.t.Helper()
	replicas := map[string]string{}
	for _, d := range deployments {
		replicas[d] = n.kubectl("get", "deployment", d, "-o", "jsonpath={.spec.replicas}")
	}
	n.t.Cleanup(func() {
		for d, count := range replicas {
			if out, err := n.command(context.Background(), "scale", "deployment", d, "--replicas="+count).CombinedOutput(); err != nil {
				n.t.Errorf("bring %s back: %v: %s", d, err, out)
			}
		}
	})
	for _, d := range deployments {
		n.kubectl("scale", "deployment", d, "--replicas=0")
	}
	n.eventually(func() error {
		out, err := n.try("get", "pods", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
	return func() {
		for d, count := range replicas {
			n.kubectl("scale", "deployment", d, "--replicas="+count)
		}
		n.rolledOut(deployments...) // which need each other
	}
}
