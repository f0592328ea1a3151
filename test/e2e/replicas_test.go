//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/kube/leader"
	"github.com/heddle-mesh/heddle/writeback"
)

const replicas = 3 // of each Deployment, with --ha

// TestOfThreeReplicasEachServesAndAnotherWritesWhenTheLeaderIsKilled: on one node too, since they are spread over nodes only
// where that can be.
func TestOfThreeReplicasEachServesAndAnotherWritesWhenTheLeaderIsKilled(t *testing.T) {
	env.mesh(t)
	system, shell := controlPlane(t), person{newShell(t, repository(t)), t}
	system.keepInstallation()
	ns := env.namespace(t, "heddle.dev/inject=enabled")
	f := ns.traffic()

	shell.must("heddle install --ha --version test | kubectl apply -f -")
	system.rolledOut("heddle", "heddle-signer")
	for _, deployment := range []string{"heddle", "heddle-signer"} {
		system.budgeted(deployment)
	}
	shell.prints("heddle check --wait 1m", "Status check results are √")

	each := map[string]bool{}
	for round := range 8 { // which one a sidecar comes to is chance
		if round > 0 {
			ns.restart("client")
		}
		for _, by := range ns.servedBy(shell) {
			each[by] = true
		}
		if len(each) == replicas {
			break
		}
	}
	if len(each) != replicas {
		t.Errorf("sidecars are served by %v, and by no other of %d replicas", each, replicas)
	}

	was := system.writer()
	killed := time.Now()
	system.kubectl("delete", "pod", was, "--grace-period=0", "--force")
	ns.applyText(patient, "NAME", "meanwhile")
	var now string
	ns.eventually(func() error {
		if now = system.writer(); now == was || now == "" {
			return fmt.Errorf("Lease %s is held by %q, which was killed", leader.Writer, now)
		}
		return nil
	})
	t.Logf("%s was killed and %s leads, %v later", was, now, time.Since(killed).Round(100*time.Millisecond))
	ns.applyText(patient, "NAME", "after")
	for _, policy := range []string{"meanwhile", "after"} {
		ns.eventually(func() error { return ns.accepted(policy) })
	}
	if got := system.writer(); got != now {
		t.Errorf("Lease %s has gone on from %s to %s, which nobody has killed", leader.Writer, now, got)
	}
	for pod, by := range ns.servedBy(shell) {
		if by == was {
			t.Errorf("%s is said to be served by %s, which was killed", pod, by)
		}
	}
	system.rolledOut("heddle") // there are three again
	shell.prints("heddle check --wait 1m", "Status check results are √")
	f.end(5_000)
}

const patient = `
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, labels: {heddle.dev/policy: "true"}}
data:
  traffic.yaml: |
    kind: Traffic
    service: NAME
    timeout: 30s
`

// keepInstallation has the mesh installed again as it is now when the test ends, and waits until it is.
func (n *namespace) keepInstallation() {
	n.t.Helper()
	saved := filepath.Join(n.t.TempDir(), "values.yaml")
	values := n.kubectl("get", "configmap", "heddle-config", "-o", `go-template={{index .data "values.yaml"}}`)
	if err := os.WriteFile(saved, []byte(values), 0o600); err != nil {
		n.t.Fatal(err)
	}
	shell := newShell(n.t, repository(n.t))
	n.t.Cleanup(func() {
		for _, command := range []string{
			"heddle upgrade --reset-values -f " + saved + " | kubectl apply -f -",
			"kubectl delete pdb -n heddle-system --all", // those that are no longer part of it
			"kubectl rollout status -n heddle-system deployment/heddle --timeout=" + patience.String(),
			"kubectl rollout status -n heddle-system deployment/heddle-signer --timeout=" + patience.String(),
		} {
			if out, err := shell.run(context.Background(), command); err != nil {
				n.t.Errorf("put the installation back: %s: %v\n%s", command, err, out)
			}
		}
	})
}

// budgeted wants all replicas of a Deployment to be ready, and one of them, no more, to be evictable at a time.
func (n *namespace) budgeted(deployment string) {
	n.t.Helper()
	d, err := env.client.AppsV1().Deployments(n.name).Get(n.t.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	if d.Status.ReadyReplicas != replicas {
		n.t.Errorf("%d replicas of %s are ready, want %d", d.Status.ReadyReplicas, deployment, replicas)
	}
	if a := d.Spec.Template.Spec.Affinity; a == nil || a.PodAntiAffinity == nil || len(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		n.t.Errorf("replicas of %s do not keep away from each other: affinity %v", deployment, a)
	}
	n.eventually(func() error { // the budget is counted a moment later
		b, err := env.client.PolicyV1().PodDisruptionBudgets(n.name).Get(n.t.Context(), deployment, metav1.GetOptions{})
		if err == nil && !allowsOne(b.Status) {
			err = fmt.Errorf("the budget of %s is %+v; want one disruption allowed of %d", deployment, b.Status, replicas)
		}
		return err
	})
}

func allowsOne(s policyv1.PodDisruptionBudgetStatus) bool {
	return s.CurrentHealthy == replicas && s.DesiredHealthy == replicas-1 && s.DisruptionsAllowed == 1
}

// servedBy gives, for each sidecar of the namespace, the pod of the control plane that serves it, once all are served.
func (n *namespace) servedBy(p person) map[string]string {
	n.t.Helper()
	var by map[string]string
	n.eventually(func() error {
		out, err := p.try("heddle proxy status -o json -n " + n.name)
		if err != nil {
			return err
		}
		var proxies []api.Proxy
		if err := json.Unmarshal([]byte(out), &proxies); err != nil {
			return fmt.Errorf("read %q: %w", out, err)
		}
		by = map[string]string{}
		for _, proxy := range proxies {
			if proxy.Synced {
				by[proxy.Pod] = proxy.Replica[strings.LastIndex(proxy.Replica, "/")+1:]
			}
		}
		pods := strings.Fields(n.kubectl("get", "pods", "-l", "heddle.dev/sidecar=true", "-o", "jsonpath={.items[*].metadata.name}"))
		if i := slices.IndexFunc(pods, func(pod string) bool { return by[pod] == "" }); i >= 0 {
			return fmt.Errorf("the sidecar of %s is not served yet, of %v", pods[i], by)
		}
		return nil
	})
	return by
}

// writer is the pod that holds the Lease of who writes status; empty if none does.
func (n *namespace) writer() string {
	n.t.Helper()
	lease, err := env.client.CoordinationV1().Leases(n.name).Get(n.t.Context(), leader.Writer, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// accepted wants a policy's annotations, and an Event, to say that it is in force.
func (n *namespace) accepted(policy string) error {
	n.t.Helper()
	c, err := env.client.CoreV1().ConfigMaps(n.name).Get(n.t.Context(), policy, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if c.Annotations[writeback.AcceptedKey] != "true" || c.Annotations[writeback.MessageKey] != "in force" || c.Annotations[writeback.HashKey] == "" {
		return fmt.Errorf("policy %s has the annotations %v", policy, c.Annotations)
	}
	events, err := n.try("get", "events", "--field-selector=involvedObject.kind=ConfigMap,involvedObject.name="+policy,
		"-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
	if err == nil && !strings.Contains(events, string(writeback.Accepted)+": in force\n") {
		err = errors.New("Events on policy " + policy + ": " + events)
	}
	return err
}
