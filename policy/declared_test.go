package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// declared is a mapping of the language as its Go type and that type's comments declare it.
type declared struct {
	reflect.Type
	doc    string
	fields []declaredField
}

type declaredField struct {
	field
	typ     reflect.Type
	doc     string
	builtin reflect.Value // the built-in value; invalid if there is none
}

// roots are the types of the kinds, in the order of the documentation.
func roots() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[Traffic](), reflect.TypeFor[Access](), reflect.TypeFor[Scope](),
		reflect.TypeFor[Telemetry](), reflect.TypeFor[Mesh](),
	}
}

// declarations lists the mappings of the language, each after the one that first uses it.
func declarations(t *testing.T) []declared {
	t.Helper()
	docs := comments(t)
	var ds []declared
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		typ = bare(typ)
		if typ.Kind() != reflect.Struct || isText(typ) || seen[typ] {
			return
		}
		seen[typ] = true
		d := declared{Type: typ, doc: docs[typ.Name()]}
		for _, f := range fieldsOf(typ) {
			sf := typ.FieldByIndex(f.index)
			by := owner(typ, f)
			d.fields = append(d.fields, declaredField{
				field: f, typ: sf.Type, doc: docs[by.Name()+"."+sf.Name], builtin: builtinField(by, sf.Name),
			})
		}
		ds = append(ds, d)
		for _, f := range d.fields {
			visit(f.typ)
		}
	}
	for _, r := range roots() {
		visit(r)
	}
	return ds
}

// owner is the type that declares a field: typ, or one that is embedded in it.
func owner(typ reflect.Type, f field) reflect.Type {
	if len(f.index) > 1 {
		return typ.FieldByIndex(f.index[:1]).Type
	}
	return typ
}

// bare is the type of what is in the end written: that of a list's entry, of a map's value, of what a pointer is to.
func bare(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

func isText(t reflect.Type) bool {
	_, ok := reflect.New(t).Interface().(text)
	return ok
}

func builtinField(owner reflect.Type, name string) reflect.Value {
	for _, b := range builtin() {
		if v := reflect.ValueOf(b); v.Type() == owner && !v.FieldByName(name).IsZero() {
			return v.FieldByName(name)
		}
	}
	return reflect.Value{}
}

// comments gives the comments of types and, as Type.Field, of their fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				typ := spec.(*ast.TypeSpec)
				docs[typ.Name.Name] = oneLine(gen.Doc.Text())
				if s, ok := typ.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, n := range f.Names {
							docs[typ.Name.Name+"."+n.Name] = oneLine(f.Doc.Text())
						}
					}
				}
			}
		}
	}
	return docs
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// everyKey reads the example of every key: its documents as YAML.
func everyKey(t *testing.T) []*yaml.Node {
	t.Helper()
	data, err := os.ReadFile("testdata/every-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	items, problems := ParseFile("testdata/every-key.yaml", data, Where{})
	for _, p := range problems {
		if p.Code != CodeNoEffectYet {
			t.Error(p)
		}
	}
	var nodes []*yaml.Node
	for _, it := range items {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(it.Source.Text), &n); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n.Content[0])
	}
	return nodes
}

// examples gives, as Type.key, how each key is used first.
func examples(t *testing.T) map[string]*yaml.Node {
	t.Helper()
	found := map[string]*yaml.Node{}
	var visit func(typ reflect.Type, n *yaml.Node)
	visit = func(typ reflect.Type, n *yaml.Node) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ.Kind() == reflect.Slice:
			for _, c := range n.Content {
				visit(typ.Elem(), c)
			}
		case typ.Kind() == reflect.Map:
			for i := 1; i < len(n.Content); i += 2 {
				visit(typ.Elem(), n.Content[i])
			}
		case typ.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
			for _, f := range fieldsOf(typ) {
				c := child(n, f.name)
				if c == nil {
					continue
				}
				for _, user := range []string{typ.Name(), owner(typ, f).Name()} {
					if _, ok := found[user+"."+f.name]; !ok {
						found[user+"."+f.name] = c
					}
				}
				visit(typ.FieldByIndex(f.index).Type, c)
			}
		}
	}
	for _, n := range everyKey(t) {
		for _, r := range roots() {
			if r.Name() == scalarAt(n, "kind") {
				visit(r, n)
			}
		}
	}
	return found
}

func TestEveryKeyIsExplainedAndHasAnExample(t *testing.T) {
	found := examples(t)
	for _, d := range declarations(t) {
		if d.doc == "" {
			t.Errorf("type %s has no comment", d.Name())
		}
		for _, f := range d.fields {
			if f.doc == "" {
				t.Errorf("%s.%s has no comment", d.Name(), f.name)
			}
			if found[d.Name()+"."+f.name] == nil {
				t.Errorf("testdata/every-key.yaml has no %s in a %s", f.name, d.Name())
			}
		}
	}
}
