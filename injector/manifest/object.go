package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/injector"
)

// object is one object of Kubernetes in a text.
type object struct {
	typeMeta
	entry
	document int   // which one it is in
	path     []any // keys and indexes that lead to it there
}

type typeMeta struct{ apiVersion, kind string }

// collect finds the objects in a document or a List. Items of a DeploymentList need not say that they are Deployments.
func (f *File) collect(e entry, implied typeMeta, path ...any) error {
	at := e.value
	if at.Kind == yaml.AliasNode {
		return fmt.Errorf("%d: *%s stands for an object; write it out", at.Line, at.Value)
	}
	meta := typeMeta{e.word("apiVersion"), e.word("kind")}
	if meta.apiVersion == "" {
		meta.apiVersion = implied.apiVersion
	}
	if meta.kind == "" {
		meta.kind = implied.kind
	}
	if meta.apiVersion == "" || meta.kind == "" {
		return fmt.Errorf("%d: not an object of Kubernetes: it needs apiVersion and kind; name only files of manifests", at.Line)
	}
	items, ok := e.get("items")
	if !ok || !strings.HasSuffix(meta.kind, "List") || items.value.Kind != yaml.SequenceNode {
		f.objects = append(f.objects, object{meta, e, f.documentOf(e), path})
		return nil
	}
	of := typeMeta{}
	if kind := strings.TrimSuffix(meta.kind, "List"); kind != "" {
		of = typeMeta{meta.apiVersion, kind}
	}
	for i, item := range items.value.Content {
		if err := f.collect(entry{value: item, flow: items.isFlow()}, of, append(path[:len(path):len(path)], "items", i)...); err != nil {
			return err
		}
	}
	return nil
}

// documentOf gives the number of the document that is being collected from: the last one that begins before the entry.
func (f *File) documentOf(e entry) int {
	n := 0
	for i, d := range f.documents {
		if d.Content[0].Line <= e.value.Line {
			n = i
		}
	}
	return n
}

// word gives a text in a mapping, or nothing.
func (e entry) word(key string) string {
	if v, ok := e.get(key); ok && v.value.Kind == yaml.ScalarNode && !v.isNull() {
		return v.value.Value
	}
	return ""
}

// templatePath leads to the pod template of a kind that has one; none: the object is a Pod itself. ok is false for
// kinds that pods do not come from.
func (m typeMeta) templatePath() (path []string, ok bool) {
	switch m.apiVersion + " " + m.kind {
	case "v1 Pod":
		return nil, true
	case "v1 PodTemplate":
		return []string{"template"}, true
	case "batch/v1 CronJob", "batch/v1beta1 CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	case "apps/v1 Deployment", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "apps/v1 ReplicaSet", "batch/v1 Job", "v1 ReplicationController":
		return []string{"spec", "template"}, true
	}
	return nil, false
}

func (m typeMeta) isNamespace() bool { return m == typeMeta{"v1", "Namespace"} }

// holder is what has the metadata that matters: the object or its pod template.
func (o object) holder() (entry, error) {
	at := o.entry
	path, _ := o.templatePath()
	for _, key := range path {
		next, ok := at.get(key)
		switch {
		case !ok || next.isNull():
			return entry{}, fmt.Errorf("no %s: there is no pod template", strings.Join(path, "."))
		case next.value.Kind == yaml.AliasNode:
			return entry{}, fmt.Errorf("line %d: *%s stands for what would have to change here; write it out", next.value.Line, next.value.Value)
		case next.value.Kind != yaml.MappingNode || next.len() == 0:
			return entry{}, fmt.Errorf("%s is no mapping: there is no pod template", key)
		}
		at = next
	}
	if _, ok := at.get("spec"); !ok && !o.isNamespace() {
		return entry{}, fmt.Errorf("no %s: nothing says what the pods are", strings.Join(append(path[:len(path):len(path)], "spec"), "."))
	}
	return at, nil
}

// field is where the word goes that asks for a sidecar.
func (m typeMeta) field() string {
	if m.isNamespace() {
		return "labels"
	}
	return "annotations"
}

// asked is what the object says of sidecars already.
func (o object) asked(holder entry) (string, bool) {
	metadata, _ := holder.get("metadata")
	bag, _ := metadata.get(o.field())
	value, ok := bag.get(injector.InjectKey)
	if !ok {
		return "", false
	}
	return value.value.Value, true
}

// mean makes a change in the values of the object's document, as the edits are meant to.
func (o object) mean(document any, change func(map[string]any)) {
	at := document
	for _, step := range o.path {
		switch s := step.(type) {
		case string:
			at = child(at, s)
		case int:
			at = at.([]any)[s] // the path comes from the same text
		}
	}
	path, _ := o.templatePath()
	for _, key := range append(path[:len(path):len(path)], "metadata", o.field()) {
		at = child(at, key)
	}
	if m, ok := at.(map[string]any); ok { // if not, the outcome differs from what is meant
		change(m)
	}
}

// child gives the value of a key, which becomes a mapping if there is none.
func child(v any, key string) any {
	m, ok := v.(map[string]any)
	if !ok {
		return map[string]any{} // then the outcome differs from what is meant
	}
	if m[key] == nil {
		m[key] = map[string]any{}
	}
	return m[key]
}

// bare leaves out what is as good as absent where our entry may have been.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			value = bare(value)
			m, isMap := value.(map[string]any)
			if may := key == "metadata" || key == "annotations" || key == "labels"; may && (value == nil || isMap && len(m) == 0) {
				continue
			}
			out[key] = value
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = bare(v[i])
		}
		return out
	}
	return v
}

// read gives a document as Kubernetes reads it, which has notions of its own of what is true and what is a number.
func (f *File) read(document int) (any, error) {
	if v, ok := f.values[document]; ok {
		return v, nil
	}
	text, err := yaml.Marshal(f.documents[document])
	if err != nil {
		return nil, err
	}
	data, err := kyaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	var v any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &v); err != nil {
		return nil, err
	}
	f.values[document] = v
	return v, nil
}

// decode reads what matters of an object: all of it, or its pod template.
func (f *File) decode(o object, into any) error {
	at, err := f.read(o.document)
	if err != nil {
		return err
	}
	for _, step := range o.path {
		switch s := step.(type) {
		case string:
			at = child(at, s)
		case int:
			at = at.([]any)[s] // the path comes from the same text
		}
	}
	path, _ := o.templatePath()
	for _, key := range path {
		at = child(at, key)
	}
	data, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(data, into)
}

// pod is the pod that comes from the object.
func (f *File) pod(o object) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := f.decode(o, pod); err != nil {
		return nil, fmt.Errorf("read the pod template: %w", err)
	}
	return pod, nil
}

// report begins what there is to say of an object.
func (o object) report() Report {
	metadata, _ := o.get("metadata")
	name := metadata.word("name")
	if name == "" {
		name = metadata.word("generateName")
	}
	return Report{Kind: o.kind, Namespace: metadata.word("namespace"), Name: name, Line: o.value.Line}
}

func (r Report) String() string { return fmt.Sprintf("%s %q", strings.ToLower(r.Kind), r.Name) }

var errNoMetadata = errors.New("no metadata: every object of Kubernetes has some, with its name")
