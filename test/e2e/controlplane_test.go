//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/test/images"
)

// controlPlane is the namespace of Heddle itself, which no test removes.
func controlPlane(t *testing.T) *namespace { return &namespace{t, "heddle-system"} }

func TestNoRequestFailsWhileTheControlPlaneIsReplaced(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	system := controlPlane(t)
	f := ns.traffic()

	system.kubectl("rollout", "restart", "deployment/heddle", "deployment/heddle-signer")
	ns.restart("server") // needs the webhook, and certificates, meanwhile
	system.rolledOut("heddle", "heddle-signer")
	ns.restart("client")
	f.end(5_000)
}

// TestNoRequestFailsWhileTheMeshIsUpgradedAndGoesBack: to another version with other values, first the control plane and then
// the sidecars, and back, where sidecars are for a while of a later version than the control plane.
func TestNoRequestFailsWhileTheMeshIsUpgradedAndGoesBack(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	system, root := controlPlane(t), repository(t)
	system.keepInstallation()
	old, next := person{newShell(t, root), t}, person{newShellOf(t, root, images.NextVersion), t}
	f := ns.traffic()

	next.must(fmt.Sprintf("heddle upgrade --version next --set server.podAnnotations.e2e=%s --set shutdown.sleepSeconds=6 --set proxy.concurrency=1 | kubectl apply -f -", ns.name))
	system.rolledOut("heddle", "heddle-signer")
	got := system.kubectl("get", "deployment", "heddle", "-o", "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.metadata.annotations.e2e}")
	if want := images.HeddleNext + " " + ns.name; got != want {
		t.Errorf("after the upgrade the control plane is %q, want %q", got, want)
	}
	proxies := "heddle check --proxy --wait 1m -n " + ns.name
	old.prints(proxies, "‼ control plane and cli versions match", images.NextVersion+" and this heddle is "+images.Version)
	behind := "has a sidecar of " + images.Version + ", and the control plane is " + images.NextVersion
	next.prints(proxies, "√ control plane and cli versions match", "√ data plane proxies have their configuration",
		"‼ data plane proxies are of the control plane's version", behind, "Status check results are ‼")
	ns.restart("server")
	ns.restart("client")
	next.prints(proxies, "√ data plane proxies are of the control plane's version", "Status check results are √")
	for _, image := range strings.Fields(ns.kubectl("get", "pods", "-o", `jsonpath={.items[*].spec.initContainers[?(@.name=="heddle-proxy")].image}`)) {
		if image != images.ProxyNext {
			t.Errorf("a sidecar that was made after the upgrade is %s, want %s", image, images.ProxyNext)
		}
	}

	old.must("heddle upgrade --version test --set proxy.concurrency=2 | kubectl apply -f -")
	system.rolledOut("heddle", "heddle-signer")
	old.prints(proxies, "√ data plane proxies have their configuration", "has a sidecar of "+images.NextVersion, "Status check results are ‼")
	ns.restart("server")
	old.prints(proxies, "√ control plane and cli versions match", "√ data plane proxies have their configuration")
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
