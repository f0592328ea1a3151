package mesh

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/heddle-mesh/heddle/policy"
)

// problem makes a problem of what stands at a path of the document as it is now.
func (d *document) problem(at policy.Path, code policy.Code, hint, message string) policy.Problem {
	p := policy.Problem{
		Code: code, Severity: code.Severity(), File: d.source.File, Path: at, Message: message, Hint: hint,
	}
	if d.accepted() || at == "" { // else this is about a version that stands nowhere any longer
		p.Line, p.Column = d.place(at)
	}
	return p
}

// refusedProblem says why the document as it is now is not in force, though it is good by itself.
func (d *document) refusedProblem() policy.Problem {
	reason := d.reasons[d.hash]
	if reason == "" {
		reason = "it was before the control plane started"
	}
	p := d.problem("", policy.CodeRefused, "change what it names; the version before stays in force", "proxies refused this version: "+reason)
	p.Severity = policy.Error
	return p
}

// place finds where a path stands in the person's own file, or what is nearest around it.
func (d *document) place(at policy.Path) (line, column int) {
	if d.source.Pinned {
		return d.source.Line, d.source.Column
	}
	if d.layout == nil {
		d.layout = &yaml.Node{Line: 1, Column: 1}
		var root yaml.Node
		if yaml.Unmarshal([]byte(d.source.Text), &root) == nil && len(root.Content) > 0 {
			d.layout = root.Content[0]
		}
	}
	n := d.layout
	for _, step := range strings.FieldsFunc(string(at), func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		next := child(n, step)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line + max(d.source.Line, 1) - 1, n.Column + d.source.Column
}

// child gives the entry of a mapping or list.
func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(step); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1]
		}
	}
	return nil
}
