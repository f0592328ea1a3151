package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/heddle-mesh/heddle/injector"
)

// File is a text of Kubernetes manifests.
type File struct {
	name      string
	bom       []byte
	text      *text
	documents []*yaml.Node
	objects   []object
	values    map[int]any // of documents, see read
}

// Change says what became of an object.
type Change int

// What can become of an object.
const (
	Unchanged Change = iota // nothing to do, or of a kind that has no pods
	Changed
	Skipped // it has pods, and the report's reason says why they are not touched
)

// Report is what became of one object.
type Report struct {
	Kind, Namespace, Name string
	Line                  int
	Change                Change
	Reason                string // of Skipped
	Warnings              []string
}

// Parse reads a text. Its name is for errors, which name a line. A text that is not YAML, or has documents that are not
// objects of Kubernetes, is an error; empty documents are not.
func Parse(name string, data []byte) (*File, error) {
	f := &File{name: name, values: map[int]any{}}
	if bom := []byte("\uFEFF"); bytes.HasPrefix(data, bom) {
		f.bom, data = bom, data[len(bom):]
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: not UTF-8, so it is no manifest", name)
	}
	f.text = newText(data)
	var err error
	if f.documents, err = nodes(data); err != nil {
		if line := templated(data); line > 0 {
			return nil, fmt.Errorf("%s:%d: %w", name, line, errTemplate)
		}
		return nil, fmt.Errorf("%s: not YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	all, err := values(f.documents)
	if line := templated(data); line > 0 && (err != nil || hasOtherKeys(all)) {
		return nil, fmt.Errorf("%s:%d: %w", name, line, errTemplate)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: not a manifest: %s", name, oneLine(err))
	}
	if hasOtherKeys(all) {
		return nil, fmt.Errorf("%s: not a manifest: a key is no text; put it in quotes", name)
	}
	for _, d := range f.documents {
		if root := (entry{value: d.Content[0]}); !root.isNull() {
			if err := f.collect(root, typeMeta{}); err != nil {
				return nil, fmt.Errorf("%s:%w", name, err)
			}
		}
	}
	return f, nil
}

// errTemplate is for what has yet to become YAML.
var errTemplate = errors.New("a template of Helm, and no manifest yet; render it first: helm template CHART | heddle inject -")

// templated gives the first line with an action of a template, 0 if there is none.
func templated(data []byte) int {
	at := bytes.Index(data, []byte("{{"))
	if at < 0 {
		return 0
	}
	return 1 + bytes.Count(data[:at], []byte("\n"))
}

// hasOtherKeys says whether some mapping has a key that is no text, which JSON and so Kubernetes do not know.
func hasOtherKeys(v any) bool {
	switch v := v.(type) {
	case map[any]any:
		return true
	case map[string]any:
		for _, value := range v {
			if hasOtherKeys(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasOtherKeys)
	}
	return false
}

// oneLine is what the YAML library says, as part of a sentence.
func oneLine(err error) string {
	lines := strings.Split(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

// nodes parses all documents.
func nodes(data []byte) ([]*yaml.Node, error) {
	var all []*yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
			all = append(all, &n)
		}
	}
}

// values are the documents' contents, whatever they are written like.
func values(documents []*yaml.Node) ([]any, error) {
	var all []any
	for _, d := range documents {
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// Inject gives the text with a sidecar asked for wherever pods come from, and what became of each object. What the
// webhook would refuse is an error.
func (f *File) Inject(op Options) ([]byte, []Report, error) {
	return f.ask(func(o object) (Report, error) { return f.inject(o, op) }, func(bag map[string]any) { bag[injector.InjectKey] = injector.Enabled })
}

// Uninject gives the text without what [File.Inject] adds, and without what [File.Render] does. The first leaves the bytes
// of before; documents with the second are written anew.
func (f *File) Uninject() ([]byte, []Report, error) {
	text, stripped, err := f.rework(f.strip)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(stripped, func(r Report) bool { return r.Change == Changed }) {
		return f.ask(f.uninject, forget)
	}
	again, err := Parse(f.name, text)
	if err != nil {
		return nil, nil, err
	}
	out, reports, err := again.ask(again.uninject, forget)
	for i := range reports {
		reports[i].Line = stripped[i].Line
		reports[i].Change = max(reports[i].Change, stripped[i].Change)
	}
	return out, reports, err
}

func forget(bag map[string]any) { delete(bag, injector.InjectKey) }

// ask makes edits for each object and holds the outcome against what was meant.
func (f *File) ask(do func(object) (Report, error), mean func(bag map[string]any)) ([]byte, []Report, error) {
	f.text.edits = nil
	var reports []Report
	var failed []error
	meant, err := values(f.documents)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.name, err)
	}
	for _, o := range f.objects {
		r, err := do(o)
		if err != nil {
			failed = append(failed, f.located(r, err)...)
			continue
		}
		if r.Change == Changed {
			o.mean(meant[o.document], mean)
		}
		reports = append(reports, r)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, nil, err
	}
	out, err := f.text.apply()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; write its metadata out plainly", f.name, err)
	}
	if err := same(out, meant); err != nil {
		return nil, nil, fmt.Errorf("%s: %w; write metadata out plainly there, without anchors", f.name, err)
	}
	return append(f.bom[:len(f.bom):len(f.bom)], out...), reports, nil
}

// located says of which object an error is, or each of several refusals.
func (f *File) located(r Report, err error) []error {
	all := []error{err}
	var refused refusedFor
	if errors.As(err, &refused) {
		all = refused.Unwrap()
	}
	var out []error
	for _, one := range all {
		if one != nil {
			out = append(out, fmt.Errorf("%s:%d: %s: %w", f.name, r.Line, r, one))
		}
	}
	return out
}

// same holds what came out against what was meant. Emptied mappings are as good as none.
func same(out []byte, meant []any) error {
	documents, err := nodes(out)
	if err != nil {
		return fmt.Errorf("the change would make it bad YAML (%w)", err)
	}
	got, err := values(documents)
	if err != nil {
		return fmt.Errorf("the change would make it bad YAML (%w)", err)
	}
	if len(got) != len(meant) {
		return errors.New("the change would add or remove documents")
	}
	for i := range got {
		if !reflect.DeepEqual(bare(got[i]), bare(meant[i])) {
			return fmt.Errorf("line %d: the change would reach other places of this document too", documents[i].Line)
		}
	}
	return nil
}
