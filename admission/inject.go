package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
)

// Injector puts sidecars into pods.
type Injector interface {
	// Inject does not change the pod. It must give the same for the same, and an error only for a fault of its own.
	Inject(pod *corev1.Pod, at Place) (Injection, error)
}

// Place is what counts of where a pod will run.
type Place struct {
	Namespace string
	Labels    map[string]string // of the namespace
	Seed      string            // unguessable, and another one for each pod
}

// Injection is what became of a pod: patched (Pod), refused (Refusal), or left alone (neither).
type Injection struct {
	Pod      *corev1.Pod
	Refusal  string // the reasons, and what to do
	Reason   string // why the pod is left alone
	Warnings []string
}

// Namespaces knows the labels of namespaces.
type Namespaces interface {
	// Labels fails if there is no such namespace, or if it cannot be found out.
	Labels(ctx context.Context, namespace string) (map[string]string, error)
}

// inject answers for a pod that is to be made.
func (h handler) inject(ctx context.Context, r *admissionv1.AdmissionRequest) (*verdict, error) {
	if r.Operation != admissionv1.Create {
		return &verdict{}, nil // a pod that is there cannot get other containers
	}
	pod, refused := decode[corev1.Pod](r.Object.Raw, "Pod")
	if refused != nil {
		return refused, nil
	}
	labels, err := h.Namespaces.Labels(ctx, r.Namespace)
	if err != nil {
		return nil, fmt.Errorf("inject a sidecar into pod %s: look at its namespace: %w; it is tried again if a controller makes the pod", podName(pod, r), err)
	}
	pod.Namespace = r.Namespace // which the object itself may leave out
	result, err := h.Injector.Inject(pod.DeepCopy(), Place{Namespace: r.Namespace, Labels: labels, Seed: string(r.UID)})
	switch {
	case err != nil:
		return nil, fmt.Errorf("inject a sidecar into pod %s: %w", podName(pod, r), err)
	case result.Refusal != "":
		v := refuse(http.StatusForbidden, "pod %s cannot have a Heddle sidecar: %s", podName(pod, r), result.Refusal)
		v.audit = map[string]string{"injection": "refused"}
		return v, nil
	case result.Pod == nil:
		return &verdict{warnings: result.Warnings, audit: map[string]string{"injection": "left alone: " + result.Reason}}, nil
	}
	patch, err := patchOf(pod, result.Pod)
	if err != nil {
		return nil, fmt.Errorf("write the patch of pod %s: %w", podName(pod, r), err)
	}
	return &verdict{patch: patch, warnings: result.Warnings, audit: map[string]string{"injection": "injected"}}, nil
}

// podName is what people know a pod by: most have no name yet.
func podName(pod *corev1.Pod, r *admissionv1.AdmissionRequest) string {
	switch {
	case pod.Name != "":
		return r.Namespace + "/" + pod.Name
	case pod.GenerateName != "":
		return r.Namespace + "/" + pod.GenerateName + "*"
	}
	return r.Namespace + "/" + r.Name
}

// patchOf is the JSON patch that makes one pod of the other. Both are written by this program, rather than one read as the
// API server sent it: a field that is newer than our types is in neither then, and stays as it is.
func patchOf(before, after *corev1.Pod) ([]byte, error) {
	a, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	operations, err := jsonpatch.CreatePatch(a, b)
	if err != nil {
		return nil, err
	}
	if len(operations) == 0 {
		return nil, nil
	}
	return json.Marshal(operations)
}
