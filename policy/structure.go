package policy

import (
	"fmt"
	"math"
	"reflect"
	"slices"
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
		fs = append(fs, field{name, f.Index, !tagged || opts == "", withGreatest(f.Tag.Get("range"), f.Type)})
	}
	return fs
}

// withGreatest gives limits a greatest value where the type has one.
func withGreatest(limits string, t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if strings.HasSuffix(limits, "..") && t.Kind() == reflect.Uint32 {
		return limits + strconv.FormatUint(math.MaxUint32, 10)
	}
	return limits
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
	var meant []string // by keys that are none; told already
	d.entries(n, at, func(k, c *yaml.Node) {
		for _, f := range fs {
			if f.name == k.Value {
				d.field(f, k, c, v.FieldByIndex(f.index), at.Field(f.name))
				return
			}
		}
		meant = append(meant, d.unknown(k, fs, at))
	})
	for _, f := range fs {
		if f.required && !d.wrote(at.Field(f.name)) && !slices.Contains(meant, f.name) {
			d.add(at, CodeMissing, "write it", "%s is missing", f.name)
		}
	}
	if c, ok := v.Interface().(choice); ok {
		told := slices.ContainsFunc(c.oneOf(), func(name string) bool { return slices.Contains(meant, name) })
		if d.exclude(c.oneOf(), at) == 0 && !told {
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
	d.keys[at], d.nodes[at] = key, n
	if f.limits != "" && n.Kind == yaml.ScalarNode && outside(f.limits, n.Value) {
		d.add(at, CodeRange, "write "+spell(f.limits), "%s is out of range", clip(n.Value))
		return
	}
	if !d.value(n, v, at) {
		return
	}
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		if n.Value == "" && len(n.Content) == 0 {
			d.add(at, CodeNothing, "leave the key out", "is empty")
		}
	}
}

// unknown tells a key that a mapping does not have, and gives the one that was probably meant.
func (d *decoder) unknown(key *yaml.Node, fs []field, at Path) string {
	names := make([]string, 0, len(fs))
	for _, f := range fs {
		names = append(names, f.name)
	}
	hint := "known here are " + strings.Join(names, ", ")
	near := nearest(key.Value, names)
	if near != "" {
		hint = "did you mean " + near + "?"
	}
	switch {
	case at == "" && (key.Value == "apiVersion" || key.Value == "metadata"):
		hint = "leave it out: the ConfigMap has it for all its documents"
	case at == "" && key.Value == "spec":
		hint = "write what is in it at the top level"
	case len(names) == 0:
		hint = "it has no settings; write {}"
	}
	d.addAt(key.Line, key.Column, Problem{Code: CodeUnknown, Path: at, Message: fmt.Sprintf("unknown field %q", clip(key.Value)), Hint: hint})
	return near
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

// outside says whether s is a number or duration beyond limits, which are written as least..greatest and may lack
// the latter. What is neither is not beyond them; whoever decodes it has more to say.
func outside(limits, s string) bool {
	least, greatest, _ := strings.Cut(limits, "..")
	x, ok := amount(s, least)
	low, _ := amount(least, least)
	high, _ := amount(greatest, least)
	return ok && (x < low || greatest != "" && x > high)
}

// amount reads a duration if the unit, one of the limits, is one, and a number otherwise.
func amount(s, unit string) (float64, bool) {
	if digits(unit[len(unit)-1:]) {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil && isNumber(s)
	}
	t, err := time.ParseDuration(s)
	return float64(t), err == nil
}

// spell writes limits for people.
func spell(limits string) string {
	least, greatest, _ := strings.Cut(limits, "..")
	if greatest == "" {
		return least + " or more"
	}
	return least + " to " + greatest
}
