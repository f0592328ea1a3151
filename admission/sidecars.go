package admission

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/injector"
)

// Sidecars is the Injector of Heddle.
type Sidecars struct {
	options  injector.Options
	defaults map[string]string
}

// NewSidecars makes an Injector. Of the options all counts but Namespace and Seed, which come with each pod. Defaults are
// annotations that a pod has unless it says otherwise. It fails if one of these, or an option, is not good: a mistake of
// whoever installs should not be told to everybody who starts a pod.
func NewSidecars(o injector.Options, defaults map[string]string) (*Sidecars, error) {
	s := &Sidecars{o, defaults}
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		if key == injector.InjectKey || !strings.HasPrefix(key, "heddle.dev/") {
			return nil, fmt.Errorf("default annotation %s: not one that can be a default; take one of docs/injection.md but %s", key, injector.InjectKey)
		}
	}
	probe := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	probe.Annotations = map[string]string{injector.InjectKey: injector.Enabled}
	tried, err := s.Inject(probe, Place{Namespace: "default", Seed: "probe"})
	switch {
	case err != nil:
		return nil, err
	case tried.Refusal != "":
		return nil, errors.New("default annotations of pods: " + tried.Refusal)
	}
	return s, nil
}

// Inject implements [Injector].
func (s *Sidecars) Inject(pod *corev1.Pod, at Place) (Injection, error) {
	o := s.options
	o.Namespace, o.Seed = injector.Namespace{Name: at.Namespace, Labels: at.Labels}, at.Seed
	r, err := injector.Patch(s.withDefaults(pod), o)
	if err != nil {
		return Injection{}, err
	}
	i := Injection{Warnings: r.Warnings}
	switch r.Outcome {
	case injector.Injected:
		i.Pod = r.Pod
	case injector.Refused:
		i.Refusal = r.Message()
	default:
		i.Reason = r.Message()
	}
	return i, nil
}

// withDefaults gives a copy of a pod with the default annotations. They stay on it, so that whoever looks at the pod sees
// what its sidecar was made by.
func (s *Sidecars) withDefaults(pod *corev1.Pod) *corev1.Pod {
	if len(s.defaults) == 0 {
		return pod
	}
	pod = pod.DeepCopy()
	own := pod.Annotations
	pod.Annotations = maps.Clone(s.defaults)
	maps.Copy(pod.Annotations, own)
	return pod
}
