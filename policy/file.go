package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Label marks the ConfigMaps that hold policies; its value is "true".
const Label = "heddle.dev/policy"

// maxChunk bounds one YAML document of a file: a full ConfigMap, indented.
const maxChunk = 4 * maxText

// Where says what a file leaves out.
type Where struct {
	Namespace string // of ConfigMaps and bare documents that name none; may be empty
	System    string // the control plane's namespace
}

// Item is one policy document found in a file.
type Item struct {
	Source    Source
	Line      int // of the file that its ConfigMap, or the bare document, begins in
	Namespace string
	ConfigMap string    // name; empty for a bare document
	Key       string    // in the ConfigMap's data
	Document  *Document // nil if it has errors
}

// Name tells people which document it is.
func (it Item) Name() string {
	if it.ConfigMap == "" {
		return fmt.Sprintf("%s:%d", it.Source.File, it.Line)
	}
	return it.Namespace + "/" + it.ConfigMap + " " + it.Key
}

// ParseFile reads a file of labelled ConfigMaps, bare policy documents, or both; other Kubernetes objects in it are
// passed over. It gives all documents, those with errors too, and every problem.
func ParseFile(name string, data []byte, where Where) ([]Item, []Problem) {
	f := &file{name: name, where: where}
	f.lines = strings.Split(string(data), "\n")
	for _, c := range chunks(data) {
		f.chunk(c)
	}
	slices.SortStableFunc(f.problems, byPlace)
	return f.items, f.problems
}

// file collects what is found in a file.
type file struct {
	name     string
	where    Where
	lines    []string
	items    []Item
	problems []Problem
}

func (f *file) chunk(c chunk) {
	src := Source{File: f.name, Text: c.text, Line: c.line}
	p := newProblems(src)
	if len(c.text) > maxChunk {
		p.addAt(1, 1, Problem{Code: CodeSize, Message: fmt.Sprintf("the document has %d bytes", len(c.text)), Hint: "no ConfigMap is that large; spread it over several"})
		f.problems = append(f.problems, p.list...)
		return
	}
	if blank(c.text) {
		return
	}
	root := p.read(c.text)
	if root != nil {
		f.object(root, c, p)
	}
	f.problems = append(f.problems, p.list...)
}

// blank says whether there is nothing but comments and separators, as between two documents or at a file's end.
func blank(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "---"))
		if line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}

// object takes what is a policy out of a Kubernetes object, or takes it as a bare document.
func (f *file) object(root *yaml.Node, c chunk, p *problems) {
	kind, api := scalarAt(root, "kind"), scalarAt(root, "apiVersion")
	switch {
	case kind == "ConfigMap":
		f.configMap(root, c, p)
	case kind == "List" || kind == "ConfigMapList":
		if items := child(root, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for _, it := range items.Content {
				f.object(it, c, p)
			}
		}
	case api != "" && !slices.Contains(kinds(), kind):
		// Another Kubernetes object.
	default:
		line, _ := p.src.place(root.Line, 1)
		f.item(Item{Source: p.src, Line: line, Namespace: f.where.Namespace})
	}
}

// item parses one document and keeps it.
func (f *file) item(it Item) {
	var ps []Problem
	it.Source.Namespace = it.Namespace
	it.Source.System = it.Namespace == "" || it.Namespace == f.where.System
	it.Document, ps = Parse(it.Source)
	f.items = append(f.items, it)
	f.problems = append(f.problems, ps...)
}

// configMap takes the documents out of a labelled ConfigMap.
func (f *file) configMap(root *yaml.Node, c chunk, p *problems) {
	metadata, data := child(root, "metadata"), child(root, "data")
	label := child(child(metadata, "labels"), Label)
	name := scalarAt(metadata, "name")
	switch {
	case label == nil || label.Value != "true":
		if !f.unlabelled(root, data, p) {
			return
		}
		// What is in it is checked all the same: it was meant to count.
	case label.Tag != "!!str":
		p.addAt(label.Line, label.Column, Problem{Code: CodeConfigMap, Message: "the label " + Label + " is not a string", Hint: `write it in quotes: "true"`})
	}
	if !isSubdomain(name) {
		p.addAt(root.Line, root.Column, Problem{Code: CodeConfigMap, Message: fmt.Sprintf("%q is not a ConfigMap's name", clip(name)), Hint: "write metadata: {name: ...}"})
	}
	if data == nil || data.Kind != yaml.MappingNode {
		p.addAt(root.Line, root.Column, Problem{Code: CodeConfigMap, Message: "the ConfigMap has no data", Hint: "write data: with a key such as traffic.yaml"})
		return
	}
	line, _ := p.src.place(root.Line, 1)
	it := Item{Line: line, Namespace: cmp.Or(scalarAt(metadata, "namespace"), f.where.Namespace), ConfigMap: name}
	d := &decoder{problems: p}
	d.entries(data, "data", func(k, v *yaml.Node) {
		at := Path("data").Key(k.Value)
		p.nodes[at], p.keys[at] = v, k
		switch {
		case v.Kind != yaml.ScalarNode || v.Tag != "!!str" || v.Anchor != "":
			p.add(at, CodeConfigMap, "write the document as a block: "+clip(k.Value)+": |", "is not a string")
		case !strings.HasSuffix(k.Value, ".yaml"):
			ignored := ignoredKey(k.Value)
			p.addKey(at, ignored.Code, ignored.Hint, "%s", ignored.Message)
		default:
			it.Key, it.Source = k.Value, f.source(k, v, c)
			f.item(it)
		}
	})
}

// unlabelled tells a ConfigMap that has policies and not the label that makes them count, and says whether it is one.
func (f *file) unlabelled(root, data *yaml.Node, p *problems) bool {
	if data == nil || data.Kind != yaml.MappingNode {
		return false
	}
	for i := 1; i < len(data.Content); i += 2 {
		for _, k := range kinds() {
			if strings.HasPrefix(data.Content[i].Value, "kind: "+k+"\n") {
				p.addAt(root.Line, root.Column, Problem{Code: CodeUnlabelled, Message: "the ConfigMap has policies, but not the label that makes them count",
					Hint: `write metadata: {labels: {` + Label + `: "true"}}`})
				return true
			}
		}
	}
	return false
}

// source finds where in the file the text of a data value stands. In a literal block its lines are the file's own,
// after an indentation; folded or quoted they are not, and the key has to do as the place.
func (f *file) source(key, value *yaml.Node, c chunk) Source {
	pinned := Source{File: f.name, Text: value.Value, Line: c.line + key.Line - 1, Column: key.Column, Pinned: true}
	if value.Style&yaml.LiteralStyle == 0 {
		return pinned
	}
	first := c.line + value.Line // the line after that of the |, counted from 1
	for i, line := range strings.Split(value.Value, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if first+i > len(f.lines) {
			return pinned
		}
		before, ok := strings.CutSuffix(strings.TrimSuffix(f.lines[first+i-1], "\r"), strings.TrimSuffix(line, "\r"))
		if !ok || strings.Trim(before, " ") != "" {
			return pinned
		}
		return Source{File: f.name, Text: value.Value, Line: first, Column: len(before)}
	}
	return pinned
}

// child gives the value of a key, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// scalarAt gives the text of a scalar under a key, or "".
func scalarAt(n *yaml.Node, key string) string {
	if c := child(n, key); c != nil && c.Kind == yaml.ScalarNode {
		return c.Value
	}
	return ""
}
