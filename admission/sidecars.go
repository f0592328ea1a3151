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
type Sidecars struct{ options injector.Options }

// NewSidecars makes an Injector. Of the options all counts but Namespace and Seed, which come with each pod. It fails if one
// of them, or of the default annotations, is not good: a mistake of whoever installs should not be told to everybody who
// starts a pod.
func NewSidecars(o injector.Options) (*Sidecars, error) {
	s := &Sidecars{o}
	for _, key := range slices.Sorted(maps.Keys(o.Defaults)) {
		if key == injector.InjectKey || !strings.HasPrefix(key, "heddle.dev/") {
			return nil, fmt.Errorf("default annotation %s: not one that can be a default; take one of docs/injection.md but %s", key, injector.InjectKey)
		}
	}
	probe := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	// As if this pod had written them all: what it is refused for, they contradict one another in, or Kubernetes' own defaults.
	probe.Annotations = map[string]string{}
	maps.Copy(probe.Annotations, o.Defaults)
	probe.Annotations[injector.InjectKey] = injector.Enabled
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
	r, err := injector.Patch(pod, o)
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
