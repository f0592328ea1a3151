package policy

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Parse reads one document. It gives every problem in it, in the order of their places; with an error among them
// (see [Failed]) there is no document.
func Parse(src Source) (*Document, []Problem) {
	p := newProblems(src)
	if len(src.Text) > maxText {
		p.addAt(1, 1, Problem{Code: CodeSize, Hint: "spread it over several ConfigMaps",
			Message: fmt.Sprintf("the document has %d bytes, more than the %d of a whole ConfigMap", len(src.Text), maxText)})
		return nil, p.sorted()
	}
	root := p.read(src.Text)
	if root == nil {
		return nil, p.sorted()
	}
	doc := p.document(root)
	if Failed(p.list) {
		doc = nil
	}
	return doc, p.sorted()
}

// Locate finds where in the source's file a path of its document stands, or what is nearest around it: for problems
// that show only beside other things.
func Locate(src Source, at Path) (line, column int) {
	p := newProblems(src)
	if root := p.read(src.Text); root != nil {
		p.document(root)
	}
	return src.place(p.nearby(at))
}

// document reads the kind and then the rest as that kind.
func (p *problems) document(root *yaml.Node) *Document {
	if root.Kind != yaml.MappingNode {
		p.addAt(root.Line, root.Column, Problem{Code: CodeType, Message: "the document is not a mapping", Hint: "write key: value, with its kind first"})
		return nil
	}
	doc := &Document{Fields: map[string]string{}, Hash: contentHash(root)}
	d := &decoder{problems: p, fields: map[reflect.Type][]field{}}
	rest := *root // without the kind, which is no field of the kinds' types
	rest.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		switch {
		case k.Value != "kind":
		case p.wrote("kind"):
			p.addAt(k.Line, k.Column, Problem{Code: CodeDuplicate, Message: `"kind" is written twice`, Hint: "keep one of them"})
			continue
		default:
			p.keys["kind"], p.nodes["kind"] = k, v
			doc.Kind = Kind(v.Value)
			continue
		}
		rest.Content = append(rest.Content, k, v)
		doc.Fields[k.Value] = contentHash(v)
	}
	into := doc.open()
	if into == nil {
		p.nodes[""] = root
		p.unknownKind(doc.Kind)
		return nil
	}
	d.value(&rest, reflect.ValueOf(into).Elem(), "")
	p.warnNoEffect(doc.Kind)
	return doc
}

// open gives the value that a document of this kind is decoded into; nil if the kind is none of ours.
func (doc *Document) open() any {
	switch doc.Kind {
	case KindTraffic:
		doc.Traffic = new(Traffic)
		return doc.Traffic
	case KindAccess:
		doc.Access = new(Access)
		return doc.Access
	case KindScope:
		doc.Scope = new(Scope)
		return doc.Scope
	case KindTelemetry:
		doc.Telemetry = new(Telemetry)
		return doc.Telemetry
	case KindMesh:
		doc.Mesh = new(Mesh)
		return doc.Mesh
	}
	return nil
}

func kinds() []string {
	return []string{string(KindTraffic), string(KindAccess), string(KindScope), string(KindTelemetry), string(KindMesh)}
}

func (p *problems) unknownKind(k Kind) {
	switch {
	case !p.wrote("kind"):
		p.add("", CodeKind, "write kind: "+either(kinds()), "the document has no kind")
	case p.nodes["kind"].Kind != yaml.ScalarNode || k == "":
		p.addKey("kind", CodeKind, "write "+either(kinds()), "does not name a kind")
	default:
		p.add("kind", CodeKind, meant(string(k), kinds()), "%q is unknown", clip(string(k)))
	}
}

// warnNoEffect tells what this version of Heddle understands but does not do yet.
func (p *problems) warnNoEffect(k Kind) {
	const hint = "keep it; a later version will do it"
	if k == KindScope || k == KindTelemetry {
		p.add("kind", CodeNoEffectYet, hint, "%s documents are checked, but have no effect yet", k)
	}
	for _, at := range []Path{"defaults.scope", "defaults.telemetry"} {
		if k == KindMesh && p.wrote(at) {
			p.addKey(at, CodeNoEffectYet, hint, "is checked, but has no effect yet")
		}
	}
}
