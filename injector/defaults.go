package injector

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// withDefaults gives a copy of a pod with the default annotations where it has none of its own. They stay on it, so that
// whoever looks at the pod sees what its sidecar was made by.
//
// A default gives way to what the pod says and is: only what the pod itself asks for may be refused.
func withDefaults(pod *corev1.Pod, defaults map[string]string) (*corev1.Pod, []string) {
	if len(defaults) == 0 {
		return pod, nil
	}
	own := pod.Annotations
	pod = pod.DeepCopy()
	pod.Annotations = maps.Clone(defaults)
	maps.Copy(pod.Annotations, own)
	f := fitting{pod: pod, own: own}
	f.pause()
	f.resources(proxyCPURequest, proxyCPULimit)
	f.resources(proxyMemoryRequest, proxyMemoryLimit)
	f.socket()
	return pod, f.warnings
}

// fitting fits defaults to a pod that has them.
type fitting struct {
	pod      *corev1.Pod
	own      map[string]string // annotations that are the pod's
	warnings []string
}

// byDefault gives the value of an annotation that the pod has by default alone.
func (f *fitting) byDefault(key string) (string, bool) {
	if _, own := f.own[key]; own {
		return "", false
	}
	value, ok := f.pod.Annotations[key]
	return strings.TrimSpace(value), ok
}

// pause shortens one that the pod's grace period has no room for, as that which nobody wrote is shortened.
func (f *fitting) pause() {
	value, ok := f.byDefault(preStopSleepKey)
	seconds, isNumber := number(value, 1, maxPreStopSleep)
	grace := graceOf(&f.pod.Spec)
	if !ok || !isNumber || seconds < grace {
		return
	}
	half := max(grace/2, 0)
	f.warnings = append(f.warnings, shortPause(grace, half, seconds))
	f.pod.Annotations[preStopSleepKey] = "off"
	if half > 0 {
		f.pod.Annotations[preStopSleepKey] = strconv.FormatInt(half, 10)
	}
}

// resources makes a default request no more than the pod's own limit, and a default limit no less than its own request. In
// a pod with resources for all containers, which what the sidecar asks for may exceed, there are no defaults.
func (f *fitting) resources(request, limit string) {
	_, requestByDefault := f.byDefault(request)
	_, limitByDefault := f.byDefault(limit)
	if f.pod.Spec.Resources != nil {
		for key, drop := range map[string]bool{request: requestByDefault, limit: limitByDefault} {
			if drop {
				delete(f.pod.Annotations, key)
			}
		}
		return
	}
	asked, err := resource.ParseQuantity(strings.TrimSpace(f.pod.Annotations[request]))
	if err != nil {
		return // none, or one that the pod is refused for
	}
	most, err := resource.ParseQuantity(strings.TrimSpace(f.pod.Annotations[limit]))
	if err != nil || asked.Cmp(most) <= 0 {
		return
	}
	switch {
	case requestByDefault && !limitByDefault:
		f.pod.Annotations[request] = f.own[limit]
	case limitByDefault && !requestByDefault:
		f.pod.Annotations[limit] = f.own[request]
	}
}

// socket leaves the Workload API out of a pod that has something else in its place.
func (f *fitting) socket() {
	asked, _ := settingsOf(f.pod)
	if _, ok := f.byDefault(workloadAPIKey); ok && len(refuseSocket(f.pod, asked)) > 0 {
		f.warnings = append(f.warnings, fmt.Sprintf("the pod does not get the Workload API, which pods have by default: it has a volume of its own at %s", workloadDir))
		delete(f.pod.Annotations, workloadAPIKey)
	}
}
