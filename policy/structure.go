package policy

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// field is a key of a mapping, as its struct declares it.
type field struct {
	name     string
	index    []int
	required bool
	limits   string // of the range tag
}

// fieldsOf lists the keys that a struct declares, those of embedded structs among them.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for _, f := range reflect.VisibleFields(t) {
		name, opts, tagged := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		fs = append(fs, field{name, f.Index, !tagged || opts == "", f.Tag.Get("range")})
	}
	return fs
}

// structure fills a struct, whose keys are those that it declares.
func (d *decoder) structure(n *yaml.Node, v reflect.Value, at Path) bool {
	if n.Kind != yaml.MappingNode {
		return d.mistyped(n, at, "a mapping, as key: value")
	}
	t := v.Type()
	if d.fields[t] == nil {
		d.fields[t] = fieldsOf(t)
	}
	fs := d.fields[t]
	d.entries(n, at, func(k, c *yaml.Node) {
		for _, f := range fs {
			if f.name == k.Value {
				d.field(f, k, c, v.FieldByIndex(f.index), at.Field(f.name))
				return
			}
		}
		d.unknown(k, fs, at)
	})
	for _, f := range fs {
		if f.required && !d.wrote(at.Field(f.name)) {
			d.add(at, CodeMissing, "write it", "%s is missing", f.name)
		}
	}
	if c, ok := v.Interface().(choice); ok {
		if d.exclude(c.oneOf(), at) == 0 {
			d.add(at, CodeMissing, "write one of them", "%s is missing", either(c.oneOf()))
		}
	}
	if e, ok := v.Interface().(exclusive); ok {
		d.exclude(e.atMostOne(), at)
	}
	if val, ok := v.Addr().Interface().(validator); ok {
		val.validate(at, d.problems)
	}
	return true
}

// field fills one field of a struct and checks it against its limits.
func (d *decoder) field(f field, key, n *yaml.Node, v reflect.Value, at Path) {
	d.keys[at] = key
	if !d.value(n, v, at) {
		return
	}
	switch {
	case v.Kind() == reflect.String && v.Len() == 0,
		(v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0:
		d.add(at, CodeNothing, "leave the key out", "is empty")
	case f.limits != "":
		d.within(f.limits, reflect.Indirect(v), at)
	}
}

// unknown tells a key that a mapping does not have.
func (d *decoder) unknown(key *yaml.Node, fs []field, at Path) {
	names := make([]string, 0, len(fs))
	for _, f := range fs {
		names = append(names, f.name)
	}
	hint := meant(key.Value, names)
	switch {
	case at == "" && (key.Value == "apiVersion" || key.Value == "metadata"):
		hint = "leave it out: the ConfigMap has it for all its documents"
	case at == "" && key.Value == "spec":
		hint = "write what is in it at the top level"
	case len(names) == 0:
		hint = "it has no settings; write {}"
	}
	d.addAt(key.Line, key.Column, Problem{Code: CodeUnknown, Path: at, Message: fmt.Sprintf("unknown field %q", clip(key.Value)), Hint: hint})
}

// exclude tells if more than one of the keys was written, and counts them.
func (d *decoder) exclude(keys []string, at Path) int {
	first, count := "", 0
	for _, k := range keys {
		if !d.wrote(at.Field(k)) {
			continue
		}
		if count++; count > 1 {
			d.addKey(at.Field(k), CodeExclusive, "keep one of them", "excludes %s", first)
			continue
		}
		first = k
		if n := d.nodes[at.Field(k)]; n.Tag == "!!bool" && strings.EqualFold(n.Value, "false") {
			d.add(at.Field(k), CodeNothing, "write true, or leave the key out", "is false")
		}
	}
	return count
}

// within holds a number or duration to limits, written as least..greatest of which the latter may be missing.
func (d *decoder) within(limits string, v reflect.Value, at Path) {
	x, parse := 0.0, func(s string) float64 { f, _ := strconv.ParseFloat(s, 64); return f }
	switch {
	case v.Type() == reflect.TypeFor[Duration]():
		x, parse = float64(v.Int()), func(s string) float64 { t, _ := time.ParseDuration(s); return float64(t) }
	case v.CanUint():
		x = float64(v.Uint())
	default:
		x = v.Float()
	}
	least, greatest, _ := strings.Cut(limits, "..")
	if x < parse(least) || greatest != "" && x > parse(greatest) {
		d.add(at, CodeRange, "write "+spell(limits), "%s is out of range", clip(d.nodes[at].Value))
	}
}

// spell writes limits for people.
func spell(limits string) string {
	least, greatest, _ := strings.Cut(limits, "..")
	if greatest == "" {
		return least + " or more"
	}
	return least + " to " + greatest
}
