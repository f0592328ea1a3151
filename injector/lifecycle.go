package injector

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// defaultGrace is Kubernetes' terminationGracePeriodSeconds.
const defaultGrace = 30

func graceOf(spec *corev1.PodSpec) int64 {
	if spec.TerminationGracePeriodSeconds == nil {
		return defaultGrace
	}
	return *spec.TerminationGracePeriodSeconds
}

// pause is how long containers go on after the pod was told to end, in seconds. What is more than the grace period is not
// admitted, and what takes it all leaves no time to end in: so by default it is at most half of it, and short says so.
func (s settings) pause(spec *corev1.PodSpec) (seconds int64, short bool) {
	if grace := graceOf(spec); s.preStopSleep >= grace && !s.preStopSet {
		return grace / 2, true
	}
	return s.preStopSleep, false
}

// pauseBeforeEnd lets each container of the application that says nothing of its end go on for some seconds, while its
// callers hear that the pod is leaving. Sidecars of the application need none: the kubelet ends them later.
func (p *patch) pauseBeforeEnd() {
	seconds, short := p.settings.pause(&p.pod.Spec)
	if short {
		p.warn("terminationGracePeriodSeconds is %d: the pause before containers end is %d s instead of %d, and requests may fail when the pod leaves",
			graceOf(&p.pod.Spec), seconds, p.settings.preStopSleep)
	}
	if seconds == 0 {
		return
	}
	for i := range p.pod.Spec.Containers {
		c := &p.pod.Spec.Containers[i]
		if c.Lifecycle == nil {
			c.Lifecycle = &corev1.Lifecycle{}
		}
		if c.Lifecycle.PreStop == nil {
			c.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
		}
	}
}

// refusePause holds a pause that somebody wrote against the grace period.
func refusePause(pod *corev1.Pod, s settings) []Refusal {
	grace := graceOf(&pod.Spec)
	if !s.preStopSet || s.preStopSleep == 0 || s.preStopSleep < grace {
		return nil
	}
	return []Refusal{{
		fmt.Sprintf("annotation %s: %q leaves nothing of terminationGracePeriodSeconds, which is %d", preStopSleepKey, pod.Annotations[preStopSleepKey], grace),
		"shorten the pause, or give the pod more time to end",
	}}
}

// hooks warns of hooks that the kubelet performs over the network, in plain text.
func hooks(spec *corev1.PodSpec) []string {
	var warnings []string
	for _, c := range containers(spec) {
		if c.Lifecycle == nil {
			continue
		}
		for _, h := range []struct {
			name string
			does *corev1.LifecycleHandler
		}{{"postStart", c.Lifecycle.PostStart}, {"preStop", c.Lifecycle.PreStop}} {
			if h.does != nil && (h.does.HTTPGet != nil && h.does.HTTPGet.Host == "" || h.does.TCPSocket != nil && h.does.TCPSocket.Host == "") {
				warnings = append(warnings, fmt.Sprintf(
					"container %s: its %s hook comes from the kubelet in plain text, which a port with strict mTLS refuses; use exec, or skip the port with %s",
					c.Name, h.name, skipInboundPorts))
			}
		}
	}
	return warnings
}
