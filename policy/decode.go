package policy

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A type of the language says more about itself by having one of these methods. Each works on the zero value,
// since schema and documentation ask it too.
type (
	// text is a type that is written as one scalar with a syntax of its own.
	text interface {
		setText(s string) *flaw
		form() form
	}
	// short is a mapping that may also be written as a string.
	short interface {
		setShort(s string) *flaw
		form() form
	}
	// enum is a type of string with a fixed set of values.
	enum interface{ words() []string }
	// choice is a mapping with exactly one of these keys.
	choice interface{ oneOf() []string }
	// exclusive is a mapping with at most one of these keys.
	exclusive interface{ atMostOne() []string }
	// validator checks what the declaration of a type cannot say. It is called after the value's parts were.
	validator interface {
		validate(at Path, p *problems)
	}
)

// form describes the scalars that stand for a value.
type form struct {
	name    string // in the documentation, such as duration
	pattern string // regular expression for the schema
	number  bool   // numbers need no quotes
}

// flaw is what is wrong with a scalar.
type flaw struct {
	code          Code
	message, hint string
}

func flawf(code Code, hint, format string, args ...any) *flaw {
	return &flaw{code, fmt.Sprintf(format, args...), hint}
}

// decoder fills the types of the language from YAML nodes and collects what does not fit.
type decoder struct {
	*problems
	fields map[reflect.Type][]field
}

// value fills v from n. It says whether v holds something that may be looked at further.
func (d *decoder) value(n *yaml.Node, v reflect.Value, at Path) bool {
	d.nodes[at] = n
	if d.full() || !d.plain(n, at) {
		return false
	}
	if v.Kind() == reflect.Pointer {
		into := reflect.New(v.Type().Elem())
		ok := d.value(n, into.Elem(), at)
		if ok {
			v.Set(into)
		}
		return ok
	}
	switch t := v.Addr().Interface().(type) {
	case text:
		return d.scalar(n, at, "a "+t.form().name) && d.sound(t.setText(n.Value), at)
	case short:
		if n.Kind == yaml.ScalarNode {
			return d.quoted(n, at) && d.sound(t.setShort(n.Value), at)
		}
	case enum:
		return d.word(n, v, t.words(), at)
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structure(n, v, at)
	case reflect.Slice:
		return d.list(n, v, at)
	case reflect.Map:
		return d.mapping(n, v, at)
	case reflect.String:
		if !d.quoted(n, at) {
			return false
		}
		v.SetString(n.Value)
		return true
	default:
		return d.basic(n, v, at)
	}
}

// plain refuses what the language leaves out of YAML: aliases (of which a few lines make gigabytes), tags and null.
func (d *decoder) plain(n *yaml.Node, at Path) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.add(at, CodeAlias, "write the value out", "policies have no YAML anchors and aliases")
	case n.Style&yaml.TaggedStyle != 0:
		d.add(at, CodeTag, "leave the tag out", "policies have no YAML tags, such as %q", clip(n.Tag))
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.addKey(at, CodeNull, "write one, or leave the key out", "has no value")
	default:
		return true
	}
	return false
}

// sound tells a flaw, if there is one.
func (d *decoder) sound(f *flaw, at Path) bool {
	if f != nil {
		d.add(at, f.code, f.hint, "%s", f.message)
	}
	return f == nil
}

// mistyped tells that something else was to be written.
func (d *decoder) mistyped(n *yaml.Node, at Path, want string) bool {
	var is string
	switch n.Kind {
	case yaml.MappingNode:
		is = "a mapping"
	case yaml.SequenceNode:
		is = "a list"
	default:
		is = strconv.Quote(clip(n.Value))
	}
	d.add(at, CodeType, "write "+want, "is %s", is)
	return false
}

func (d *decoder) scalar(n *yaml.Node, at Path, want string) bool {
	return n.Kind == yaml.ScalarNode || d.mistyped(n, at, want)
}

// quoted takes strings only: whoever writes version: 1.10 gets 1.1 from other tools, so numbers and the like that
// are meant as strings want quotes.
func (d *decoder) quoted(n *yaml.Node, at Path) bool {
	if !d.scalar(n, at, "a string") {
		return false
	}
	if n.Tag != "!!str" && n.Tag != "!!timestamp" {
		d.add(at, CodeType, fmt.Sprintf("write it in quotes: %q", clip(n.Value)), "%s is not a string", clip(n.Value))
		return false
	}
	return true
}

func (d *decoder) word(n *yaml.Node, v reflect.Value, words []string, at Path) bool {
	if !d.scalar(n, at, either(words)) {
		return false
	}
	for _, w := range words {
		if n.Value == w {
			v.SetString(w)
			return true
		}
	}
	d.add(at, CodeWord, meant(n.Value, words), "%q is unknown", clip(n.Value))
	return false
}

// basic fills numbers and truth values.
func (d *decoder) basic(n *yaml.Node, v reflect.Value, at Path) bool {
	switch v.Kind() {
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			return d.mistyped(n, at, "true or false")
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
		return true
	case reflect.Float64:
		if !d.scalar(n, at, "a number") {
			return false
		}
		f, flaw := decimal(n.Value)
		v.SetFloat(f)
		return d.sound(flaw, at)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if !d.scalar(n, at, "a whole number") {
			return false
		}
		u, flaw := whole(n.Value, v.Type().Bits())
		v.SetUint(u)
		return d.sound(flaw, at)
	}
	panic("policy: no way to decode a " + v.Type().String()) // a mistake in the declaration of a type, seen by every test
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, at Path) bool {
	switch n.Kind {
	case yaml.SequenceNode:
	case yaml.ScalarNode:
		return d.mistyped(n, at, "a list: ["+clip(n.Value)+"]")
	default:
		return d.mistyped(n, at, `a list, each entry after "- "`)
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.value(c, list.Index(i), at.Index(i))
	}
	v.Set(list)
	return true
}

// mapping fills a map, whose keys people choose.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, at Path) bool {
	if n.Kind != yaml.MappingNode {
		return d.mistyped(n, at, "a mapping, as key: value")
	}
	m := reflect.MakeMap(v.Type())
	d.entries(n, at, func(k, c *yaml.Node) {
		at := at.Key(k.Value)
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		keyOK := true
		if t, ok := key.Addr().Interface().(text); ok {
			d.nodes[at] = k
			keyOK = d.sound(t.setText(k.Value), at)
		} else {
			key.SetString(k.Value)
		}
		d.keys[at] = k
		if !d.value(c, elem, at) || !keyOK {
			return
		}
		if m.MapIndex(key).IsValid() {
			d.addKey(at, CodeDuplicate, "keep one of them", "is the same as a key before it")
			return
		}
		m.SetMapIndex(key, elem)
	})
	v.Set(m)
	if val, ok := v.Interface().(validator); ok {
		val.validate(at, d.problems)
	}
	return true
}

// entries calls each for the keys of a mapping that are new.
func (d *decoder) entries(n *yaml.Node, at Path, each func(key, value *yaml.Node)) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 {
			d.addAt(k.Line, k.Column, Problem{Code: CodeType, Path: at, Message: "a key is not plain text", Hint: "write key: value"})
			continue
		}
		if first, ok := seen[k.Value]; ok {
			line, _ := d.src.place(first, 1)
			d.addAt(k.Line, k.Column, Problem{Code: CodeDuplicate, Path: at,
				Message: fmt.Sprintf("%q is written twice, first in line %d", clip(k.Value), line), Hint: "keep one of them"})
			continue
		}
		seen[k.Value] = k.Line
		each(k, n.Content[i+1])
	}
}
