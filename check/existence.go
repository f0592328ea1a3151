package check

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func existenceGroup() group {
	return group{"heddle-existence", []item{
		{"namespace", "control plane namespace exists", []string{"api-query"}, namespaceExists},
		{"configuration", "control plane configuration exists", []string{"namespace"}, configured},
		{"deployments", "control plane Deployments exist", []string{"namespace"}, deploymentsExist},
		{"replica-sets", "control plane replica sets are ready", []string{"deployments"}, replicaSetsReady},
		{"unschedulable-pods", "no unschedulable pods", []string{"deployments"}, noUnschedulable},
		{"control-plane-pods", "control plane pods are running", []string{"deployments"}, podsRunning},
	}}
}

const install = "install it: heddle install | kubectl apply -f -"

func namespaceExists(f *Facts, _ Options) outcome {
	switch {
	case f.Namespace.Err != nil:
		return unread("Namespace "+f.ControlPlane, f.Namespace.Err)
	case f.Namespace.Value == nil:
		return fail("there is no Namespace "+f.ControlPlane, install)
	case f.Namespace.Value.DeletionTimestamp != nil:
		return fail("Namespace "+f.ControlPlane+" is being deleted", "wait until it is gone, then "+install)
	}
	return ok()
}

func configured(f *Facts, _ Options) outcome {
	switch {
	case f.Configuration.Err != nil:
		return unread("ConfigMap "+f.ControlPlane+"/"+ConfigMap, f.Configuration.Err)
	case !f.Configuration.Value:
		return fail("there is no ConfigMap "+f.ControlPlane+"/"+ConfigMap+": heddle upgrade would not know the values of the installation", install)
	}
	return ok()
}

func deploymentsExist(f *Facts, _ Options) outcome {
	if f.Deployments.Err != nil {
		return unread("Deployments in namespace "+f.ControlPlane, f.Deployments.Err)
	}
	var wrong []string
	for _, name := range []string{ServerName, SignerName} {
		if f.Deployments.Value[name] == nil {
			wrong = append(wrong, "there is no Deployment "+f.ControlPlane+"/"+name)
		}
	}
	return none(wrong, install)
}

func replicaSetsReady(f *Facts, _ Options) outcome {
	var wrong []string
	for name, d := range f.Deployments.Value {
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		switch {
		case want == 0:
			wrong = append(wrong, fmt.Sprintf("Deployment %s/%s is scaled to zero", f.ControlPlane, name))
		case d.Status.ObservedGeneration < d.Generation:
			wrong = append(wrong, fmt.Sprintf("Deployment %s/%s has changed, and nobody has acted on it yet", f.ControlPlane, name))
		case d.Status.UpdatedReplicas < want || d.Status.ReadyReplicas < want:
			wrong = append(wrong, fmt.Sprintf("Deployment %s/%s: %d of %d replicas are ready, %d of the newest version%s",
				f.ControlPlane, name, d.Status.ReadyReplicas, want, d.Status.UpdatedReplicas, troubleOf(d)))
		}
	}
	return none(wrong, "kubectl describe deployment -n "+f.ControlPlane+" tells why; after an installation heddle check --wait 2m waits")
}

// troubleOf is what the Deployment says went wrong.
func troubleOf(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue ||
			c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return ": " + c.Message
		}
	}
	return ""
}

func noUnschedulable(f *Facts, _ Options) outcome {
	if f.Pods.Err != nil {
		return unread("pods in namespace "+f.ControlPlane, f.Pods.Err)
	}
	var wrong []string
	for _, p := range f.Pods.Value {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				wrong = append(wrong, fmt.Sprintf("pod %s/%s: %s", p.Namespace, p.Name, c.Message))
			}
		}
	}
	return none(wrong, "make room on the nodes, or lower the requests with the chart's values")
}

func podsRunning(f *Facts, _ Options) outcome {
	if f.Pods.Err != nil {
		return unread("pods in namespace "+f.ControlPlane, f.Pods.Err)
	}
	var wrong []string
	running := map[string]bool{}
	for i := range f.Pods.Value {
		p := &f.Pods.Value[i]
		if account := p.Spec.ServiceAccountName; account != ServerName && account != SignerName || p.DeletionTimestamp != nil {
			continue
		}
		if why := unready(p); why != "" {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s %s", p.Namespace, p.Name, why))
			continue
		}
		running[p.Spec.ServiceAccountName] = true
	}
	for _, account := range []string{ServerName, SignerName} {
		if !running[account] {
			wrong = append(wrong, fmt.Sprintf("no pod of Deployment %s/%s is ready", f.ControlPlane, account))
		}
	}
	return none(wrong, "kubectl describe pod and kubectl logs -n "+f.ControlPlane+" tell why")
}

// unready says why a pod is not ready; empty if it is.
func unready(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return "has ended: " + strings.TrimSpace(string(p.Status.Phase)+" "+p.Status.Reason)
	}
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		switch {
		case s.Ready:
		case s.State.Waiting != nil && s.State.Waiting.Reason != "PodInitializing":
			return strings.TrimSpace(fmt.Sprintf("waits in container %s: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message))
		case s.State.Running != nil && (s.Name == ProxyContainer || s.Started == nil || *s.Started):
			return fmt.Sprintf("is not ready: container %s is not", s.Name)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return ""
		}
	}
	return "is not ready (" + string(p.Status.Phase) + ")"
}
