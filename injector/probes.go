package injector

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rewriteProbes turns what the kubelet would ask the application for over the network, by probes and by hooks, into questions
// to the agent, which performs them: the kubelet has no certificate, and a strict port refuses it. It gives them as they
// were, as JSON: "container/kind" to handler and timeout, with ports as numbers; empty if there are none.
//
// Stay as they are: commands; what is asked of another host than the pod, since that is nothing that the pod's sidecar would
// refuse, and the pod may not reach what its node does; what names a port that the container does not have, so that the
// kubelet complains of it as it does without a mesh; and hooks by tcpSocket, which the API has and the kubelet refuses.
func (p *patch) rewriteProbes() string {
	original := map[string]corev1.Probe{}
	for _, c := range containers(&p.pod.Spec) {
		for kind, probe := range probeKinds(c) {
			if probe == nil {
				continue
			}
			handler, ok := resolve(probe.ProbeHandler, c)
			if !ok {
				continue
			}
			original[c.Name+"/"+kind] = corev1.Probe{ProbeHandler: handler, TimeoutSeconds: max(probe.TimeoutSeconds, 1)}
			probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: p.toAgent("probe/" + c.Name + "/" + kind)}
		}
		for kind, hook := range hooks(c) {
			if hook == nil || hook.HTTPGet == nil {
				continue
			}
			handler, ok := resolve(corev1.ProbeHandler{HTTPGet: hook.HTTPGet}, c)
			if !ok {
				continue
			}
			original[c.Name+"/"+kind] = corev1.Probe{ProbeHandler: handler}
			hook.HTTPGet = p.toAgent("probe/" + c.Name + "/" + kind)
		}
	}
	if len(original) == 0 {
		return ""
	}
	text, err := json.Marshal(original) // sorts
	if err != nil {
		panic(fmt.Sprintf("a probe that came from JSON does not go back: %v", err))
	}
	return string(text)
}

// probeKinds are a container's probes by what they are called in paths; nil where there is none.
func probeKinds(c *corev1.Container) map[string]*corev1.Probe {
	return map[string]*corev1.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe, "startup": c.StartupProbe}
}

// hooks are a container's hooks by what they are called in paths; nil where there is none.
func hooks(c *corev1.Container) map[string]*corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return map[string]*corev1.LifecycleHandler{"postStart": c.Lifecycle.PostStart, "preStop": c.Lifecycle.PreStop}
}

// resolve gives a handler with a number for its port, if the agent can perform it.
func resolve(h corev1.ProbeHandler, c *corev1.Container) (corev1.ProbeHandler, bool) {
	switch {
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		action := h.HTTPGet.DeepCopy()
		port, ok := portOf(action.Port, c)
		action.Port = port
		if !strings.HasPrefix(action.Path, "/") {
			action.Path = "/" + action.Path // the kubelet does so as well
		}
		orDefault(&action.Scheme, corev1.URISchemeHTTP)
		return corev1.ProbeHandler{HTTPGet: action}, ok
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		port, ok := portOf(h.TCPSocket.Port, c)
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}, ok
	case h.GRPC != nil:
		return corev1.ProbeHandler{GRPC: h.GRPC.DeepCopy()}, true
	}
	return corev1.ProbeHandler{}, false
}

// portOf looks a port's name up in its container, as the kubelet does. A number needs no declaration.
func portOf(port intstr.IntOrString, c *corev1.Container) (intstr.IntOrString, bool) {
	if port.Type == intstr.Int {
		return port, port.IntVal > 0
	}
	for _, declared := range c.Ports {
		if declared.Name == port.StrVal {
			return intstr.FromInt32(declared.ContainerPort), true
		}
	}
	if n, ok := number(port.StrVal, 1, 65535); ok { // "8080", in quotes
		return intstr.FromInt32(int32(n)), true
	}
	return port, false
}
