//go:build e2e

package e2e

import (
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// enough is how many requests have to succeed, without one that fails.
const enough = 20_000

func TestNoRequestFailsWhilePodsComeAndGo(t *testing.T) {
	env.mesh(t)
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	f := ns.traffic()

	ns.restart("server")
	ns.restart("client")
	ns.scale("server", "10")
	ns.scale("server", "2")
	ns.scale("server", "3")
	ns.kubectl("delete", "pod", ns.pod("app=server"))
	ns.rolledOut("server")
	ns.evict(ns.pod("app=server"))
	ns.rolledOut("server")
	ns.kubectl("delete", "pod", ns.pod("app=client"))
	ns.evict(ns.pod("app=client"))
	ns.rolledOut("client")
	for f.sent() < enough+enough/10 {
		ns.restart("server")
	}
	f.end(enough)
}

// restart replaces all pods of a Deployment, one after the other.
func (n *namespace) restart(deployment string) {
	n.t.Helper()
	n.kubectl("rollout", "restart", "deployment/"+deployment)
	n.rolledOut(deployment)
}

func (n *namespace) scale(deployment, replicas string) {
	n.t.Helper()
	n.kubectl("scale", "deployment/"+deployment, "--replicas="+replicas)
	n.rolledOut(deployment)
}

// evict does to a pod what draining its node does.
func (n *namespace) evict(pod string) {
	n.t.Helper()
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: n.name}}
	if err := env.client.PolicyV1().Evictions(n.name).Evict(n.t.Context(), eviction); err != nil {
		n.t.Fatalf("evict %s: %v", pod, err)
	}
}
