package manifest

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/injector"
)

// Namespaces are the labels of namespaces, by name.
type Namespaces map[string]map[string]string

// Add takes those that stand in a text.
func (n Namespaces) Add(f *File) error {
	for _, o := range f.objects {
		if !o.isNamespace() {
			continue
		}
		var ns corev1.Namespace
		if err := f.decode(o, &ns); err != nil {
			r := o.report()
			return fmt.Errorf("%s:%d: %s: %w", f.name, r.Line, r, err)
		}
		n[ns.Name] = ns.Labels
	}
	return nil
}

// of gives the facts about a namespace, in which somebody asks for sidecars.
func (n Namespaces) of(name string) injector.Namespace {
	labels := map[string]string{injector.InjectKey: injector.Enabled}
	for k, v := range n[name] {
		labels[k] = v
	}
	labels[injector.InjectKey] = injector.Enabled
	return injector.Namespace{Name: name, Labels: labels}
}

// refusedFor is an error with all that stands against a sidecar.
type refusedFor []injector.Refusal

func (r refusedFor) Error() string { return errors.Join(r.Unwrap()...).Error() }

func (r refusedFor) Unwrap() []error {
	var all []error
	for _, refusal := range r {
		all = append(all, errors.New(refusal.String()))
	}
	return all
}

// Options say what a text does not.
type Options struct {
	Namespace  string // of objects that name none
	Namespaces Namespaces
	System     string // namespace of the control plane; default heddle-system
}

// inject asks for a sidecar, unless the webhook would not put one in: better to hear so now than from an event.
func (f *File) inject(o object, op Options) (Report, error) {
	r := o.report()
	if o.isNamespace() {
		return f.injectNamespace(o, r, op)
	}
	if _, ok := o.templatePath(); !ok {
		return r, nil
	}
	holder, err := o.holder()
	if err != nil {
		return r, err
	}
	if holder.value == o.value && r.Name == "" { // a Pod
		return r, errNoMetadata
	}
	pod, err := f.pod(o)
	if err != nil {
		return r, err
	}
	got, err := injector.Patch(pod, injector.Options{Namespace: op.namespace(r), System: op.System, Image: "none", Seed: "none"})
	if err != nil {
		return r, err
	}
	r.Warnings = append(o.misplaced(), got.Warnings...)
	switch _, already := o.asked(holder); {
	case got.Outcome == injector.Refused:
		return r, refusedFor(got.Refusals)
	case got.Outcome == injector.LeftAlone:
		r.Change, r.Reason = Skipped, got.Reason
		return r, nil
	case already:
		return r, nil
	}
	r.Change = Changed
	return r, f.text.graft(holder, o.field())
}

// namespace gives the facts about that of an object.
func (op Options) namespace(r Report) injector.Namespace {
	if r.Namespace == "" {
		return op.Namespaces.of(op.Namespace)
	}
	return op.Namespaces.of(r.Namespace)
}

// misplaced warns of the word that asks for a sidecar, or forbids one, where nobody looks for it.
func (o object) misplaced() []string {
	if path, _ := o.templatePath(); len(path) == 0 {
		return nil
	}
	metadata, _ := o.get("metadata")
	annotations, _ := metadata.get("annotations")
	value, ok := annotations.get(injector.InjectKey)
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf("its own annotation %s: %q has no effect; what counts is the one of its pod template", injector.InjectKey, value.value.Value)}
}

func (f *File) injectNamespace(o object, r Report, op Options) (Report, error) {
	switch value, labelled := o.asked(o.entry); {
	case r.Name == "":
		return r, errNoMetadata
	case injector.IsSystem(r.Name, op.System):
		r.Change, r.Reason = Skipped, "pods there never get a sidecar"
		return r, nil
	case value == injector.Disabled:
		r.Change, r.Reason = Skipped, "its label "+injector.InjectKey+" says "+injector.Disabled
		return r, nil
	case labelled && value != injector.Enabled:
		return r, fmt.Errorf("label %s: %q is not understood; write %s or %s", injector.InjectKey, value, injector.Enabled, injector.Disabled)
	}
	metadata, _ := o.get("metadata")
	annotations, _ := metadata.get("annotations")
	if value, ok := annotations.get(injector.InjectKey); ok {
		return r, fmt.Errorf("annotation %s: %q has no effect, on a namespace it is a label; remove the annotation", injector.InjectKey, value.value.Value)
	}
	if refusal := injector.CheckNamespace(op.Namespaces.of(r.Name)); refusal != nil {
		return r, refusedFor{*refusal}
	}
	if _, labelled := o.asked(o.entry); labelled {
		return r, nil
	}
	r.Change = Changed
	return r, f.text.graft(o.entry, o.field())
}

// uninject takes the word out that asks for a sidecar. Another word there is not ours.
func (f *File) uninject(o object) (Report, error) {
	r := o.report()
	if _, ok := o.templatePath(); !ok && !o.isNamespace() {
		return r, nil
	}
	holder, err := o.holder()
	if err != nil {
		return r, nil // nothing is asked for where no pod comes from
	}
	if value, ok := o.asked(holder); !ok || value != injector.Enabled {
		return r, nil
	}
	r.Change = Changed
	return r, f.text.prune(holder, o.field())
}
