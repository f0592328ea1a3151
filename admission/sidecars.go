package admission

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/injector"
)

// Sidecars is the Injector of Heddle. Of Options all counts but Namespace and Seed, which come with each pod.
type Sidecars struct{ Options injector.Options }

// Inject implements [Injector].
func (s Sidecars) Inject(pod *corev1.Pod, at Place) (Injection, error) {
	o := s.Options
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
