package injector

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/model"
)

// podSecurityEnforce is the label by which a namespace says which pods may start in it.
const podSecurityEnforce = "pod-security.kubernetes.io/enforce"

const leaveOut = `or leave the pod out with the annotation ` + InjectKey + `: "` + Disabled + `"`

// wanted says whether somebody asks for a sidecar: the pod itself, or else its namespace.
func wanted(pod *corev1.Pod, ns Namespace) (value string, onPod bool) {
	if value, onPod = pod.Annotations[InjectKey]; onPod {
		return value, true
	}
	return ns.Labels[InjectKey], false
}

// wantProblems refuses what is neither yes nor no.
func wantProblems(pod *corev1.Pod, ns Namespace) []Refusal {
	value, onPod := wanted(pod, ns)
	if value == Enabled {
		return nil
	}
	where := fmt.Sprintf("label %s of namespace %s", InjectKey, ns.Name)
	if onPod {
		where = "annotation " + InjectKey
	}
	return []Refusal{{fmt.Sprintf("%s: %q is not understood", where, value), "write " + Enabled + " or " + Disabled}}
}

// LeaveAlone gives the reason why a pod stays as it is, if there is one; system is the control plane's namespace.
func LeaveAlone(pod *corev1.Pod, ns Namespace, system string) string {
	value, onPod := wanted(pod, ns)
	switch {
	case value == Disabled && onPod:
		return "its annotation " + InjectKey + " says " + Disabled
	case value == Disabled, value == "" && !onPod:
		return fmt.Sprintf("nobody asks for a sidecar: neither its annotation %s nor the label of its namespace says %s", InjectKey, Enabled)
	case IsSystem(ns.Name, system):
		return fmt.Sprintf("pods of namespace %s never get a sidecar: the mesh itself depends on them", ns.Name)
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return "it is the image of a static pod, which its node has started already"
	case isWindows(&pod.Spec):
		return "it runs on Windows, where there is no sidecar"
	case pod.Spec.HostNetwork:
		return "it is on its node's network: a sidecar would redirect the traffic of the whole node"
	case pod.Labels[model.SidecarLabel] == "true" && hasContainer(&pod.Spec, SidecarContainer):
		return "it has its sidecar already"
	}
	return ""
}

// IsSystem says whether a namespace is one of those that never get sidecars. The control plane's is system, by default
// heddle-system.
func IsSystem(namespace, system string) bool {
	return slices.Contains([]string{cmp.Or(system, systemNamespace), "kube-system", "kube-public", "kube-node-lease"}, namespace)
}

func isWindows(spec *corev1.PodSpec) bool {
	host := spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil && spec.SecurityContext.WindowsOptions.HostProcess != nil
	return spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == "windows" || host
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(containers(spec), func(c *corev1.Container) bool { return c.Name == name })
}

// refuse gives all that stands against a sidecar in this pod.
func refuse(pod *corev1.Pod, s settings, o Options) []Refusal {
	return slices.Concat(
		refuseNamespace(o.Namespace), refuseNames(pod), refuseOtherMesh(pod), refuseUser(&pod.Spec), refusePorts(&pod.Spec),
		refuseDNS(&pod.Spec, o), refusePause(pod, s), refuseSocket(pod, s),
	)
}

func refuseNamespace(ns Namespace) []Refusal {
	if err := CheckNamespace(ns); err != nil {
		return []Refusal{{err.Reason, err.Remedy + ", " + leaveOut}}
	}
	return nil
}

// refuseNames looks for things that have the names of ours.
func refuseNames(pod *corev1.Pod) []Refusal {
	var found []Refusal
	for _, c := range containers(&pod.Spec) {
		if c.Name == InitContainer || c.Name == SidecarContainer {
			found = append(found, Refusal{fmt.Sprintf("a container of the pod is called %s, as one of the mesh's is", c.Name), "give it another name, " + leaveOut})
		}
	}
	for _, v := range pod.Spec.Volumes {
		if isOurVolume(v.Name) {
			found = append(found, Refusal{fmt.Sprintf("a volume of the pod is called %s, as one of the mesh's is", v.Name), "give it another name, " + leaveOut})
		}
	}
	if value, ok := pod.Labels[model.SidecarLabel]; ok && len(found) == 0 {
		found = append(found, Refusal{
			fmt.Sprintf("the pod has the label %s: %q but no sidecar, and others would believe the label", model.SidecarLabel, value),
			"remove the label: injection sets it",
		})
	}
	return found
}

// refuseOtherMesh looks for the sidecar of another mesh: two of them would redirect to one another.
func refuseOtherMesh(pod *corev1.Pod) []Refusal {
	for _, name := range []string{"istio-proxy", "istio-init", "linkerd-proxy", "linkerd-init", "kuma-sidecar", "consul-dataplane"} {
		if hasContainer(&pod.Spec, name) {
			return []Refusal{{
				fmt.Sprintf("the pod has the sidecar of another mesh, container %s, and both redirect its traffic", name),
				"switch the other one off for this pod, " + leaveOut,
			}}
		}
	}
	return nil
}

// refuseUser looks for containers of the application that run as the user whose traffic is not redirected.
func refuseUser(spec *corev1.PodSpec) []Refusal {
	var found []Refusal
	for _, c := range containers(spec) {
		if user := userOf(spec, c); user != nil && *user == sidecarUser {
			found = append(found, Refusal{
				fmt.Sprintf("container %s has runAsUser %d, the sidecar's own: its traffic would go around the mesh", c.Name, sidecarUser),
				"choose another runAsUser, " + leaveOut,
			})
		}
	}
	return found
}

// userOf is what the manifest says of a container's user; nil: the image decides.
func userOf(spec *corev1.PodSpec, c *corev1.Container) *int64 {
	if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser
	}
	if spec.SecurityContext != nil {
		return spec.SecurityContext.RunAsUser
	}
	return nil
}

// refusePorts looks for ports of the application that the sidecar listens on: there is one network in a pod.
func refusePorts(spec *corev1.PodSpec) []Refusal {
	var found []Refusal
	for _, c := range containers(spec) {
		for _, p := range c.Ports {
			if p.Protocol != corev1.ProtocolUDP && slices.Contains([]int32{outboundPort, inboundPort, AgentPort}, p.ContainerPort) {
				found = append(found, Refusal{
					fmt.Sprintf("container %s has port %d, where the sidecar listens", c.Name, p.ContainerPort),
					fmt.Sprintf("let it listen elsewhere than on %d, %d and %d, %s", outboundPort, inboundPort, AgentPort, leaveOut),
				})
			}
		}
	}
	return found
}

// refuseDNS looks for pods that ask the node's name servers, which do not know the control plane.
func refuseDNS(spec *corev1.PodSpec, o Options) []Refusal {
	if spec.DNSPolicy != corev1.DNSDefault || isAddress(o.ControlPlane) && isAddress(o.Signer) {
		return nil
	}
	return []Refusal{{
		fmt.Sprintf("dnsPolicy Default asks the node's name servers, and they do not know %s: the sidecar would wait for ever", o.ControlPlane),
		"set dnsPolicy: ClusterFirst, " + leaveOut,
	}}
}

// isAddress says whether host:port needs no name server.
func isAddress(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

// warn tells what works other than one may expect in a pod that is injected.
func warn(pod *corev1.Pod, s settings) []string {
	warnings := unknown(pod.Annotations)
	if value, ok := pod.Labels[InjectKey]; ok {
		warnings = append(warnings, fmt.Sprintf("label %s: %q has no effect on a pod; write it as an annotation", InjectKey, value))
	}
	spec := &pod.Spec
	for _, c := range containers(spec) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				warnings = append(warnings, fmt.Sprintf(
					"container %s: what comes in through hostPort %d is plain text, which a port with strict mTLS refuses", c.Name, p.HostPort))
			}
		}
	}
	if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
		warnings = append(warnings, "shareProcessNamespace: a process of another container that is root can read the sidecar's memory, and its private key")
	}
	if spec.Resources == nil && guaranteed(spec) && !allEqual(s.resources) {
		warnings = append(warnings, fmt.Sprintf("the pod's quality of service was Guaranteed and is Burstable; set %s equal to %s, and %s to %s, to keep it",
			proxyCPURequest, proxyCPULimit, proxyMemoryRequest, proxyMemoryLimit))
	}
	if spec.DNSPolicy == corev1.DNSNone {
		warnings = append(warnings, "dnsPolicy None: the sidecar starts only if the name servers in dnsConfig know the cluster's Services")
	}
	return warnings
}

// guaranteed says whether the kubelet would count the pod among those of quality of service Guaranteed: all containers
// have limits, and ask for as much. A pod without containers, as a misspelt key makes it, is nothing yet.
func guaranteed(spec *corev1.PodSpec) bool {
	return len(spec.Containers) > 0 && !slices.ContainsFunc(containers(spec), func(c *corev1.Container) bool { return !allEqual(c.Resources) })
}

func allEqual(r corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, ok := r.Limits[name]
		request, asked := r.Requests[name]
		if !ok || asked && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}

// CheckNamespace says why no pod with a sidecar can start in a namespace, if so: its Pod Security forbids them.
func CheckNamespace(ns Namespace) *Refusal {
	level := ns.Labels[podSecurityEnforce]
	if level == "" || level == "privileged" {
		return nil
	}
	return &Refusal{
		fmt.Sprintf("namespace %s enforces the Pod Security Standard %q, which forbids NET_ADMIN, and the container %s needs it to redirect traffic",
			ns.Name, level, InitContainer),
		fmt.Sprintf("kubectl label namespace %s %s=privileged --overwrite", ns.Name, podSecurityEnforce),
	}
}
