package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"

	"github.com/heddle-mesh/heddle/injector"
)

// Render gives the text with the whole sidecar in it, as the webhook would put it into pods. A document that changes is
// written anew, with its comments and the order of its keys; JSON has its keys sorted. The namespace in the options and
// the seed are filled in for each object; what the webhook would refuse is an error.
func (f *File) Render(op Options, sidecar injector.Options) ([]byte, []Report, error) {
	seed := sidecar.Seed
	return f.rework(func(o object) (Report, any, error) {
		r := o.report()
		sidecar.Namespace = op.namespace(r)
		sidecar.Seed = fmt.Sprintf("%s/%s/%s/%s", seed, r.Kind, sidecar.Namespace.Name, r.Name)
		return f.render(o, r, sidecar)
	})
}

// rework changes the nodes of objects, and writes the documents anew in which something changed. The function that does
// it gives the pod that is meant to come from the object then, or nil.
func (f *File) rework(do func(object) (Report, any, error)) ([]byte, []Report, error) {
	var reports []Report
	var failed []error
	changed := map[int]bool{}
	want := map[int]any{} // by object
	for i, o := range f.objects {
		r, after, err := do(o)
		want[i] = after
		failed = append(failed, f.located(r, err)...)
		changed[o.document] = changed[o.document] || r.Change == Changed
		reports = append(reports, r)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, nil, err
	}
	out, err := f.rewrite(changed)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.name, err)
	}
	if err := f.rendered(out, want); err != nil {
		return nil, nil, fmt.Errorf("%s: %w; write pod templates out, without anchors and merges", f.name, err)
	}
	return out, reports, nil
}

// rendered holds what came out against the pods that were meant.
func (f *File) rendered(out []byte, want map[int]any) error {
	got, err := Parse(f.name, out)
	if err != nil {
		return fmt.Errorf("the change would make it a bad manifest: %w", err)
	}
	for i, o := range f.objects {
		if want[i] == nil {
			continue
		}
		pod, err := got.pod(o)
		if err != nil {
			return err
		}
		if is, err := plain(pod); err != nil || !reflect.DeepEqual(is, want[i]) {
			return errors.Join(fmt.Errorf("line %d: the change does not come out as it is meant", o.value.Line), err)
		}
	}
	return nil
}

// render changes the nodes of one object, and gives the pod that is meant to come from it then.
func (f *File) render(o object, r Report, sidecar injector.Options) (Report, any, error) {
	if _, ok := o.templatePath(); !ok {
		return r, nil, nil
	}
	holder, err := o.holder()
	if err != nil {
		return r, nil, err
	}
	pod, err := f.pod(o)
	if err != nil {
		return r, nil, err
	}
	got, err := injector.Patch(pod, sidecar)
	switch {
	case err != nil:
		return r, nil, err
	case got.Outcome == injector.Refused:
		return r, nil, refusedFor(got.Refusals)
	case got.Outcome == injector.LeftAlone:
		r.Change, r.Reason = Skipped, got.Reason
		return r, nil, nil
	}
	r.Change, r.Warnings = Changed, got.Warnings
	after, err := turn(holder, pod, got.Pod)
	return r, after, err
}

// turn makes the nodes of one pod those of another, which it gives as JSON has it.
func turn(holder entry, from, to *corev1.Pod) (any, error) {
	before, err := plain(from)
	if err != nil {
		return nil, err
	}
	after, err := plain(to)
	if err != nil {
		return nil, err
	}
	return after, reconcile(holder.value, before, after)
}

// strip takes the sidecar out of an object that has it.
func (f *File) strip(o object) (Report, any, error) {
	r := o.report()
	holder, err := o.holder()
	if _, ok := o.templatePath(); !ok || err != nil || !hasSidecar(holder) {
		return r, nil, nil
	}
	pod, err := f.pod(o)
	if err != nil {
		return r, nil, err
	}
	without, ok, err := injector.Remove(pod)
	if err != nil || !ok {
		return r, nil, err
	}
	r.Change = Changed
	after, err := turn(holder, pod, without)
	return r, after, err
}

// plain gives an object as JSON has it, with whole numbers.
func plain(v any) (out any, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(text, &out)
	}
	return out, err
}

// hasSidecar says whether a pod template may have a sidecar in it.
func hasSidecar(holder entry) bool {
	spec, _ := holder.get("spec")
	list, ok := spec.get("initContainers")
	return ok && slices.ContainsFunc(list.value.Content, func(item *yaml.Node) bool {
		return (entry{value: item}).word("name") == injector.SidecarContainer
	})
}

// reconcile makes a node say what after says, where that differs from before, which is what the node says.
func reconcile(n *yaml.Node, before, after any) error {
	if reflect.DeepEqual(before, after) {
		return nil
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return fmt.Errorf("line %d: an anchor shares what would have to change here; write it out", n.Line)
	}
	was, isMap := before.(map[string]any)
	is, stays := after.(map[string]any)
	if isMap && stays && n.Kind == yaml.MappingNode {
		return reconcileMapping(n, was, is)
	}
	wasList, isList := before.([]any)
	isNow, staysList := after.([]any)
	if isList && staysList && n.Kind == yaml.SequenceNode {
		return reconcileList(n, wasList, isNow)
	}
	return encodeInto(n, after)
}

// encodeInto puts a value in the place of what a node says. Its comments stay.
func encodeInto(n *yaml.Node, v any) error {
	fresh := yaml.Node{}
	if err := fresh.Encode(v); err != nil {
		return err
	}
	nameFirst(&fresh)
	n.Kind, n.Tag, n.Value, n.Content, n.Style = fresh.Kind, fresh.Tag, fresh.Value, fresh.Content, fresh.Style
	return nil
}

// nameFirst puts the names of things before what is said of them, as people do.
func nameFirst(n *yaml.Node) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			pair := slices.Clone(n.Content[i : i+2])
			n.Content = append(pair, slices.Delete(n.Content, i, i+2)...)
		}
	}
	for _, c := range n.Content {
		nameFirst(c)
	}
}

func reconcileMapping(n *yaml.Node, before, after map[string]any) error {
	e := entry{value: n}
	for i := 0; i+1 < len(n.Content); {
		key := n.Content[i].Value
		if _, stays := after[key]; !stays && before[key] != nil {
			n.Content = slices.Delete(n.Content, i, i+2)
			continue
		}
		i += 2
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if reflect.DeepEqual(before[key], after[key]) {
			continue
		}
		if have, ok := e.get(key); ok {
			if err := reconcile(have.value, before[key], after[key]); err != nil {
				return err
			}
			continue
		}
		value := &yaml.Node{}
		if err := encodeInto(value, after[key]); err != nil {
			return err
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
	}
	n.Style &^= yaml.FlowStyle // what is in it would not fit on a line
	return nil
}

// reconcileList keeps the nodes of items that stay, which are known by their names.
func reconcileList(n *yaml.Node, before, after []any) error {
	var content []*yaml.Node
	for _, item := range after {
		i := slices.IndexFunc(before, func(old any) bool { return nameOf(old) == nameOf(item) })
		if i >= 0 && i < len(n.Content) {
			if err := reconcile(n.Content[i], before[i], item); err != nil {
				return err
			}
			content = append(content, n.Content[i])
			continue
		}
		node := &yaml.Node{}
		if err := encodeInto(node, item); err != nil {
			return err
		}
		content = append(content, node)
	}
	n.Content = content
	n.Style &^= yaml.FlowStyle
	return nil
}

// nameOf is what an item is known by: its name with what else it can differ by, or all of it.
func nameOf(item any) string {
	if m, ok := item.(map[string]any); ok && m["name"] != nil {
		return fmt.Sprint(m["name"], " ", m["mountPath"])
	}
	return fmt.Sprint(item)
}

// rewrite puts documents that were changed in the place of what they were.
func (f *File) rewrite(changed map[int]bool) ([]byte, error) {
	var out bytes.Buffer
	out.Write(f.bom)
	next := 0
	for _, piece := range pieces(f.text.bytes) {
		in, err := nodes(piece)
		if err != nil || len(in) > 1 {
			return nil, fmt.Errorf("near document %d: the separators of documents are unusual; begin each with a line of ---", next+1)
		}
		if len(in) == 0 || !changed[next] {
			out.Write(piece)
			next += len(in)
			continue
		}
		if bytes.HasPrefix(piece, []byte("---")) {
			out.WriteString("---\n")
		}
		if err := encode(&out, f.documents[next], bytes.TrimPrefix(piece, []byte("---"))); err != nil {
			return nil, err
		}
		next++
	}
	if next != len(f.documents) {
		return nil, errors.New("the separators of documents are unusual; begin each with a line of ---")
	}
	return out.Bytes(), nil
}

// pieces cuts a text before each line that begins with ---, as kubectl does.
func pieces(b []byte) [][]byte {
	var all [][]byte
	start := 0
	for at := 0; at < len(b); {
		if at > 0 && bytes.HasPrefix(b[at:], []byte("---")) {
			all, start = append(all, b[start:at]), at
		}
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return append(all, b[start:])
}

// encode writes a document the way the text of before was: as JSON or YAML, with its indentation.
func encode(out *bytes.Buffer, document *yaml.Node, was []byte) error {
	var v any
	if json.Unmarshal(was, &v) == nil {
		if err := document.Decode(&v); err != nil {
			return err
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		return e.Encode(v)
	}
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if compact(document) {
		e.CompactSeqIndent()
	}
	return errors.Join(e.Encode(document), e.Close())
}

// compact says whether the items of a document's first list begin where the list's key does.
func compact(n *yaml.Node) bool {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && c.Kind == yaml.SequenceNode && c.Style&yaml.FlowStyle == 0 && c.Column > 0 {
			return c.Column == n.Content[i-1].Column
		}
	}
	return slices.ContainsFunc(n.Content, compact)
}
