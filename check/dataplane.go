package check

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/controlplane/api"
)

func dataPlaneGroup() group {
	told := []string{"control-plane-api", "proxies-listed"}
	return group{"heddle-data-plane", []item{
		{"proxies-ready", "data plane proxies are ready", []string{"api-query"}, proxiesReady},
		{"injected", "pods that ask for a sidecar have one", []string{"api-query"}, injected},
		{"trust-copies", "meshed namespaces have the current trust bundle", []string{"trust-bundle"}, trustCopies},
		{"proxies-listed", "data plane proxies are connected", []string{"control-plane-api"}, proxiesConnected},
		{"proxies-synced", "data plane proxies have their configuration", told, proxiesSynced},
		{"proxies-accept", "no data plane proxy refused its configuration", told, proxiesAccept},
		{"proxies-certificates", "data plane proxies' certificates are being renewed", told, proxiesCertificates},
		{"proxies-version", "data plane proxies are of the control plane's version", told, proxiesVersion},
	}}
}

func proxiesReady(f *Facts, _ Options) outcome {
	if f.SidecarPods.Err != nil {
		return unread("pods with sidecars", f.SidecarPods.Err)
	}
	var wrong []string
	for _, p := range f.SidecarPods.Value {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		found := false
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if s.Name != ProxyContainer {
				continue
			}
			found = true
			if !s.Ready {
				wrong = append(wrong, fmt.Sprintf("pod %s/%s: container %s is not ready%s", p.Namespace, p.Name, ProxyContainer, stateOf(s)))
			}
		}
		if !found {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s has no container %s, or it has not begun", p.Namespace, p.Name, ProxyContainer))
		}
	}
	return none(wrong, "heddle proxy logs -n NAMESPACE POD tells why")
}

func stateOf(s corev1.ContainerStatus) string {
	switch {
	case s.State.Waiting != nil:
		return strings.TrimRight(": "+s.State.Waiting.Reason+" "+s.State.Waiting.Message, " ")
	case s.State.Terminated != nil:
		return fmt.Sprintf(": it ended with exit code %d", s.State.Terminated.ExitCode)
	}
	return ""
}

func injected(f *Facts, _ Options) outcome {
	if f.Uninjected.Err != nil {
		return unread("pods in namespaces with injection", f.Uninjected.Err)
	}
	if len(f.Uninjected.Value) > 0 {
		return warn(few(f.Uninjected.Value), "pods get a sidecar when they are made: kubectl rollout restart deployment -n NAMESPACE, and replace bare pods")
	}
	return ok()
}

func trustCopies(f *Facts, _ Options) outcome {
	if f.TrustCopies.Err != nil {
		return unread("the trust bundles of namespaces", f.TrustCopies.Err)
	}
	var wrong []string
	for namespace, document := range f.TrustCopies.Value {
		switch document {
		case f.Trust.Value:
		case "":
			wrong = append(wrong, fmt.Sprintf("there is no ConfigMap %s/%s: pods there cannot start", namespace, TrustConfigMap))
		default:
			wrong = append(wrong, fmt.Sprintf("ConfigMap %s/%s is not the current trust bundle", namespace, TrustConfigMap))
		}
	}
	return none(wrong, "the signer writes them within a minute; kubectl logs -n "+f.ControlPlane+" deploy/"+SignerName+" tells why it does not")
}

func proxiesConnected(f *Facts, _ Options) outcome {
	if f.Proxies.Err != nil {
		return fail("the control plane does not tell of its proxies: "+f.Proxies.Err.Error(), "heddle proxy status asks the same")
	}
	connected := map[string]bool{}
	for _, p := range f.Proxies.Value {
		connected[p.Name()] = true
	}
	var wrong []string
	for _, p := range f.SidecarPods.Value {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil && !connected[p.Namespace+"/"+p.Name] {
			wrong = append(wrong, fmt.Sprintf("pod %s/%s is not connected: it works with what it has", p.Namespace, p.Name))
		}
	}
	return none(wrong, "heddle proxy logs -n NAMESPACE POD tells why")
}

func eachProxy(f *Facts, judge func(api.Proxy) string) []string {
	var wrong []string
	for _, p := range f.Proxies.Value {
		if why := judge(p); why != "" {
			wrong = append(wrong, "pod "+p.Name()+" "+why)
		}
	}
	return wrong
}

func proxiesSynced(f *Facts, _ Options) outcome {
	return none(eachProxy(f, func(p api.Proxy) string {
		var late []string
		for _, t := range p.Types {
			if !t.Synced {
				late = append(late, t.Type)
			}
		}
		if p.Synced {
			return ""
		}
		return strings.TrimRight("has not confirmed all of its configuration: "+strings.Join(late, ", "), ": ")
	}), "right after a change that is normal; heddle proxy status shows it once more")
}

func proxiesAccept(f *Facts, _ Options) outcome {
	return none(eachProxy(f, func(p api.Proxy) string {
		for _, t := range p.Types {
			for _, r := range t.Refused {
				return fmt.Sprintf("refused %s %s: %s", t.Type, r.Resource, r.Reason)
			}
		}
		return ""
	}), "it keeps the last good version; heddle proxy config -n NAMESPACE POD shows it, and the policy's status what was wrong")
}

// proxiesCertificates goes by what was signed last, where the signer tells: a stream does not show a renewed certificate.
func proxiesCertificates(f *Facts, o Options) outcome {
	signed := map[string]time.Time{}
	if f.Identity.Value != nil {
		for _, s := range f.Identity.Value.Sidecars {
			if key := s.Namespace + "/" + s.Pod; s.NotAfter.After(signed[key]) {
				signed[key] = s.NotAfter
			}
		}
	}
	return none(eachProxy(f, func(p api.Proxy) string {
		until := p.Certificate.NotAfter
		if later := signed[p.Name()]; later.After(until) {
			until = later
		}
		if until.IsZero() {
			return ""
		}
		life := lifeOf(p.Certificate.NotBefore, p.Certificate.NotAfter)
		if why := unrenewed(life, until, o.Now); why != "" {
			return "has a certificate that " + why
		}
		return ""
	}), "heddle proxy logs -n NAMESPACE POD tells what the signer answers")
}

func proxiesVersion(f *Facts, _ Options) outcome {
	want := f.serverVersion().Version
	wrong := eachProxy(f, func(p api.Proxy) string {
		if p.Agent == "" || p.Agent == want {
			return ""
		}
		return fmt.Sprintf("has a sidecar of %s, and the control plane is %s", p.Agent, want)
	})
	if len(wrong) > 0 {
		return warn(few(wrong), "make the pods anew to bring their sidecars up: kubectl rollout restart deployment -n NAMESPACE")
	}
	return ok()
}
