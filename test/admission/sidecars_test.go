package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/admission"
	"github.com/heddle-mesh/heddle/model"
)

// sidecars is an injector.
type sidecars struct{}

func (sidecars) Inject(p *corev1.Pod, at admission.Place) (admission.Injection, error) {
	value, own := p.Annotations["heddle.dev/inject"]
	switch {
	case own && value != "enabled" && value != "disabled":
		return admission.Injection{Refusal: fmt.Sprintf("annotation heddle.dev/inject: %q is not understood; write enabled or disabled", value)}, nil
	case p.Labels[model.SidecarLabel] == "true":
		return admission.Injection{Reason: "it has a sidecar"}, nil
	case value != "enabled" && at.Labels["heddle.dev/inject"] != "enabled":
		return admission.Injection{Reason: "it does not ask for one"}, nil
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[model.SidecarLabel] = "true"
	p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "heddle-proxy", Image: "heddle-proxy"})
	return admission.Injection{Pod: p}, nil
}
