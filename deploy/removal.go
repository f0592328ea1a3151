package deploy

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/release/v1/util"
	"sigs.k8s.io/yaml"
)

// Object names one of a rendering's objects.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   Name   `json:"metadata"`
}

// Name is where an object is.
type Name struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // empty for what belongs to the whole cluster
}

// String is how kubectl names it: kind.group/name, and its namespace before that.
func (o Object) String() string {
	kind := strings.ToLower(o.Kind)
	if group, _, found := strings.Cut(o.APIVersion, "/"); found {
		kind += "." + group
	}
	if o.Metadata.Namespace == "" {
		return kind + "/" + o.Metadata.Name
	}
	return "-n " + o.Metadata.Namespace + " " + kind + "/" + o.Metadata.Name
}

// Objects lists what a text of Render holds, in its order.
func Objects(rendered string) ([]Object, error) {
	documents := util.SplitManifests(rendered)
	objects := make([]Object, len(documents))
	for i := range objects {
		text := documents[fmt.Sprintf("manifest-%d", i)] // as SplitManifests names them
		if err := yaml.Unmarshal([]byte(text), &objects[i]); err != nil {
			return nil, fmt.Errorf("read object %d of a rendering: %w", i+1, err)
		}
	}
	return objects, nil
}

// Leftover lists what one rendering has and a later one has not: `kubectl apply` of the later one leaves it where it is.
func Leftover(before, after string) ([]Object, error) {
	old, err := Objects(before)
	if err != nil {
		return nil, err
	}
	now, err := Objects(after)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(old, func(o Object) bool { return slices.Contains(now, o) }), nil
}

// RemovalOptions say what to remove.
type RemovalOptions struct {
	Namespace string // of the control plane; default DefaultNamespace
	Purge     bool   // its Namespace too, and the CA that is in there
}

// Removal gives, as YAML documents, what `kubectl delete --ignore-not-found -f -` must be told to take Heddle out of a cluster,
// whatever values it was installed with. The webhooks come first: once they are gone nothing in the cluster waits for the
// control plane.
func Removal(o RemovalOptions) (string, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	// Every object that any values make.
	many := map[string]any{"replicas": 2}
	rendered, err := render(Release{Namespace: o.Namespace, Values: map[string]any{
		"namespace": map[string]any{"create": true}, "networkPolicy": map[string]any{"enabled": true}, "server": many, "signer": many,
	}})
	if err != nil {
		return "", err
	}
	objects, err := Objects(rendered)
	if err != nil {
		return "", err
	}
	objects = append(objects, made(o.Namespace)...)
	if !o.Purge {
		objects = slices.DeleteFunc(objects, kept)
	}
	slices.Reverse(objects)
	slices.SortStableFunc(objects, func(a, b Object) int { return removalRank(a) - removalRank(b) })
	var b strings.Builder
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return "", fmt.Errorf("write %s: %w", o, err)
		}
		fmt.Fprintf(&b, "---\n%s", text)
	}
	return b.String(), nil
}

// made is what the control plane itself makes in its namespace.
func made(namespace string) []Object {
	return []Object{
		{"v1", "Secret", Name{"heddle-ca", namespace}},
		{"v1", "ConfigMap", Name{"heddle-trust", namespace}},
		{"coordination.k8s.io/v1", "Lease", Name{"heddle-signer", namespace}},
		{"coordination.k8s.io/v1", "Lease", Name{"heddle-writer", namespace}},
	}
}

// kept says that an object stays unless it is purged: with it a new installation takes the mesh up where this one left it, and
// running sidecars trust it.
func kept(o Object) bool {
	return o.Kind == "Namespace" || o.Metadata.Name == "heddle-ca" || o.Metadata.Name == "heddle-trust"
}

// removalRank puts what others wait for before the others. Deployments go before what they need to end in order.
func removalRank(o Object) int {
	order := []string{
		"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy",
		"PodDisruptionBudget", "Deployment",
	}
	switch i := slices.Index(order, o.Kind); {
	case i >= 0:
		return i
	case o.Kind == "Namespace":
		return len(order) + 1
	}
	return len(order)
}
