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

// shortPause warns of a pause that is shorter than was meant; all in seconds.
func shortPause(grace, is, instead int64) string {
	return fmt.Sprintf("terminationGracePeriodSeconds is %d: the pause before containers end is %d s instead of %d, and requests may fail when the pod leaves",
		grace, is, instead)
}

// pauseBeforeEnd lets each container of the application that says nothing of its end go on for some seconds, while its
// callers hear that the pod is leaving. Sidecars of the application need none: the kubelet ends them later.
func (p *patch) pauseBeforeEnd() {
	seconds, short := p.settings.pause(&p.pod.Spec)
	if short {
		p.warnings = append(p.warnings, shortPause(graceOf(&p.pod.Spec), seconds, p.settings.preStopSleep))
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
