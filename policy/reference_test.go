package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	referenceFile  = "../docs/policy.md"
	referenceBegin = "<!-- From here on made from the types: go test ./policy -update -->\n"
)

// reference writes the part of the documentation that lists every key.
func reference(t *testing.T) string {
	found := examples(t)
	var b strings.Builder
	for _, d := range declarations(t) {
		level := "###"
		if slices.Contains(roots(), d.Type) {
			level = "##"
		}
		fmt.Fprintf(&b, "\n%s %s\n\n%s\n", level, d.Name(), d.doc)
		if len(d.fields) == 0 {
			continue
		}
		b.WriteString("\n| key | type | default | meaning | example |\n|---|---|---|---|---|\n")
		for _, f := range d.fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.name, cell(f.describe()), cell(f.defaultText()), cell(f.doc), cell(example(found[d.Name()+"."+f.name])))
		}
		b.WriteString(rules(reflect.New(d.Type).Interface()))
	}
	return b.String()
}

// rules tells which keys exclude each other.
func rules(zero any) string {
	switch z := zero.(type) {
	case choice:
		return "\nExactly one of " + keyList(z.oneOf()) + ".\n"
	case exclusive:
		return "\nAt most one of " + keyList(z.atMostOne()) + ".\n"
	}
	return ""
}

func keyList(keys []string) string { return "`" + strings.Join(keys, "`, `") + "`" }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// describe writes the type of a field for people.
func (f declaredField) describe() string {
	s := describeType(f.typ)
	if f.limits != "" {
		s += ", " + spell(f.limits)
	}
	return s
}

func describeType(t reflect.Type) string {
	zero := reflect.New(t).Interface()
	link := fmt.Sprintf("[%s](#%s)", t.Name(), strings.ToLower(t.Name()))
	switch z := zero.(type) {
	case text:
		if words, ok := zero.(enum); ok {
			return z.form().name + ": " + keyList(words.words())
		}
		return z.form().name
	case short:
		return z.form().name + " or " + link
	case enum:
		return keyList(z.words())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describeType(t.Elem())
	case reflect.Struct:
		return link
	case reflect.Slice:
		return "list of " + describeType(t.Elem())
	case reflect.Map:
		if t == reflect.TypeFor[Labels]() {
			return "labels"
		}
		key := "name"
		if k, ok := reflect.New(t.Key()).Interface().(text); ok {
			key = k.form().name
		}
		return fmt.Sprintf("mapping of %s to %s", key, describeType(t.Elem()))
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	case reflect.Float64:
		return "number"
	}
	return "whole number"
}

func (f declaredField) defaultText() string {
	switch {
	case f.required:
		return "must be written"
	case !f.builtin.IsValid():
		return "–"
	case bare(f.typ).Kind() == reflect.Struct:
		return "with its defaults"
	case f.typ.Kind() == reflect.Slice:
		return fmt.Sprintf("`%s`", strings.ReplaceAll(fmt.Sprint(plain(f.builtin)), " ", ", "))
	}
	return fmt.Sprintf("`%v`", plain(f.builtin))
}

// example writes a value as it is used, or points to where its keys are.
func example(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	n.Style |= yaml.FlowStyle
	out, err := yaml.Marshal(n)
	if s := strings.TrimSpace(string(out)); err == nil && len(s) <= 70 && !strings.Contains(s, "\n") {
		return "`" + s + "`"
	}
	return "see there"
}

func TestTheReferenceIsMadeFromTheTypes(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	intro, want, ok := strings.Cut(string(text), referenceBegin)
	if !ok {
		t.Fatalf("%s has no line %s", referenceFile, referenceBegin)
	}
	got := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(intro+referenceBegin+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the types say; go test ./policy -update writes it (-file +types):\n%s", referenceFile, diff)
	}
}

func TestEveryExampleInTheDocumentationIsGood(t *testing.T) {
	names, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, name := range append(names, "../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
			items, problems := ParseFile(name, m[1], Where{System: "heddle-system"})
			count += len(items)
			for _, p := range problems {
				if p.Code != CodeNoEffectYet {
					t.Errorf("in an example: %s", p)
				}
			}
		}
	}
	if count == 0 {
		t.Error("no example was found")
	}
}
