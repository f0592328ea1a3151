package policy

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"
)

const schemaFile = "../docs/policy.schema.json"

// schemaOf makes the JSON Schema of the language from its types. The library gives the schema's own types and, for
// the tests, a validator; it cannot infer the schema, since what makes the language exact (words, ranges, short
// forms, keys that exclude each other) is declared in its own way.
func schemaOf(t *testing.T) *jsonschema.Schema {
	root := &jsonschema.Schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", Title: "Heddle policy document", Type: "object",
		Required: []string{"kind"}, Defs: map[string]*jsonschema.Schema{},
	}
	for _, d := range declarations(t) {
		root.Defs[d.Name()] = d.schema()
	}
	for _, r := range roots() {
		s := root.Defs[r.Name()]
		var kind any = r.Name()
		s.Properties["kind"] = &jsonschema.Schema{Const: &kind}
		s.PropertyOrder = append([]string{"kind"}, s.PropertyOrder...)
		s.Required = append([]string{"kind"}, s.Required...)
		root.OneOf = append(root.OneOf, &jsonschema.Schema{Ref: "#/$defs/" + r.Name()})
	}
	return root
}

func (d declared) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type: "object", Description: d.doc, Properties: map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
	}
	for _, f := range d.fields {
		s.Properties[f.name] = f.schema()
		s.PropertyOrder = append(s.PropertyOrder, f.name)
		if f.required {
			s.Required = append(s.Required, f.name)
		}
	}
	zero := reflect.New(d.Type).Interface()
	if c, ok := zero.(choice); ok {
		for _, key := range c.oneOf() {
			s.OneOf = append(s.OneOf, &jsonschema.Schema{Required: []string{key}})
		}
	}
	if e, ok := zero.(exclusive); ok {
		both := &jsonschema.Schema{}
		keys := e.atMostOne()
		for i, a := range keys {
			for _, b := range keys[i+1:] {
				both.AnyOf = append(both.AnyOf, &jsonschema.Schema{Required: []string{a, b}})
			}
		}
		s.Not = both
	}
	if sh, ok := zero.(short); ok {
		return &jsonschema.Schema{Description: d.doc, AnyOf: []*jsonschema.Schema{{Type: "string", Pattern: sh.form().pattern}, s}}
	}
	return s
}

func (f declaredField) schema() *jsonschema.Schema {
	s := typeSchema(f.typ, f.limits)
	s.Description = f.doc
	if f.builtin.IsValid() && bare(f.typ).Kind() != reflect.Struct {
		s.Default, _ = json.Marshal(plain(f.builtin))
	}
	switch f.typ.Kind() {
	case reflect.Slice:
		s.MinItems = new(1)
	case reflect.Map:
		s.MinProperties = new(1)
	case reflect.String:
		if s.Pattern == "" && s.Enum == nil {
			s.MinLength = new(1)
		}
	}
	return s
}

// typeSchema is the schema of a value of a type.
func typeSchema(t reflect.Type, limits string) *jsonschema.Schema {
	zero := reflect.New(t).Interface()
	switch z := zero.(type) {
	case text:
		return textSchema(t, z.form())
	case enum:
		s := &jsonschema.Schema{}
		for _, w := range z.words() {
			s.Enum = append(s.Enum, w)
			if n, err := strconv.Atoi(w); err == nil {
				s.Enum = append(s.Enum, n)
			}
		}
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), limits)
	case reflect.Struct:
		return &jsonschema.Schema{Ref: "#/$defs/" + t.Name()}
	case reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: typeSchema(t.Elem(), "")}
	case reflect.Map:
		s := &jsonschema.Schema{Type: "object", AdditionalProperties: typeSchema(t.Elem(), "")}
		if key, ok := reflect.New(t.Key()).Interface().(text); ok && !key.form().number {
			s.PropertyNames = &jsonschema.Schema{Pattern: key.form().pattern}
		}
		return s
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}
	case reflect.Float64:
		return bounded(&jsonschema.Schema{Type: "number"}, limits)
	}
	s := bounded(&jsonschema.Schema{Type: "integer"}, limits)
	if s.Maximum == nil && t.Bits() < 64 {
		s.Maximum = new(float64(uint64(math.MaxUint64) >> (64 - t.Bits())))
	}
	if s.Minimum == nil {
		s.Minimum = new(0.0)
	}
	return s
}

func textSchema(t reflect.Type, f form) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string", Pattern: f.pattern}
	switch {
	case t == reflect.TypeFor[Percent]():
		return bounded(&jsonschema.Schema{Type: "number"}, "0..100")
	case t == reflect.TypeFor[Port]():
		return bounded(&jsonschema.Schema{Type: "integer"}, "1..65535")
	case f.number:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, bounded(&jsonschema.Schema{Type: "integer"}, "100..599")}}
	}
	return s
}

func bounded(s *jsonschema.Schema, limits string) *jsonschema.Schema {
	if limits == "" {
		return s
	}
	least, greatest, _ := strings.Cut(limits, "..")
	low, _ := amount(least, least)
	s.Minimum = &low
	if high, ok := amount(greatest, least); ok {
		s.Maximum = &high
	}
	return s
}

// plain turns a built-in value into what a person would write.
func plain(v reflect.Value) any {
	v = reflect.Indirect(v)
	if d, ok := v.Interface().(Duration); ok {
		return d.String()
	}
	return v.Interface()
}

func TestTheSchemaIsMadeFromTheTypes(t *testing.T) {
	got, err := json.MarshalIndent(schemaOf(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the types say; go test ./policy -update writes it (-file +types):\n%s", schemaFile, diff)
	}
}

// readSchema reads the schema as an editor would: from its file.
func readSchema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// instance reads YAML as a validator of JSON wants it.
func instance(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return jsonValue(v)
}

// jsonValue makes the keys of mappings strings, as in JSON all are.
func jsonValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = jsonValue(v[k])
		}
	case map[any]any:
		m := map[string]any{}
		for k := range v {
			text, _ := yaml.Marshal(k)
			m[strings.TrimSpace(string(text))] = jsonValue(v[k])
		}
		return m
	case []any:
		for i := range v {
			v[i] = jsonValue(v[i])
		}
	}
	return v
}

func TestTheSchemaAcceptsWhateverTheParserAccepts(t *testing.T) {
	schema := readSchema(t)
	names, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	var items []Item
	for _, name := range append(names, "testdata/every-key.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found, problems := ParseFile(name, data, Where{System: "heddle-system"})
		if Failed(problems) {
			t.Errorf("%s: %v", name, problems)
		}
		items = append(items, found...)
	}
	for _, a := range archives(t) {
		for _, f := range a.files.Files[:len(a.files.Files)-1] {
			found, _ := ParseFile(f.Name, f.Data, Where{System: "heddle-system"})
			items = append(items, found...)
		}
	}
	for _, it := range items {
		if it.Document == nil {
			continue
		}
		if err := schema.Validate(instance(t, it.Source.Text)); err != nil {
			t.Errorf("%s: the parser accepts it, the schema does not: %v", it.Name(), err)
		}
	}
}

func TestTheSchemaRefusesWhatIsPlainlyWrong(t *testing.T) {
	schema := readSchema(t)
	for name, text := range map[string]string{
		"no kind":               "service: a",
		"unknown kind":          "{kind: Trafic, service: a}",
		"unknown key":           "{kind: Traffic, service: a, timout: 1s}",
		"key of another kind":   "{kind: Traffic, service: a, mtls: strict}",
		"missing key":           "{kind: Traffic}",
		"number out of range":   "{kind: Traffic, service: a, retries: {attempts: 11}}",
		"negative number":       "{kind: Traffic, service: a, circuitBreaker: {maxRequests: -1}}",
		"duration without unit": "{kind: Traffic, service: a, timeout: 5}",
		"negative duration":     "{kind: Traffic, service: a, timeout: -5s}",
		"percent above 100":     "{kind: Traffic, service: a, loadBalancer: {panicThreshold: 101}}",
		"unknown word":          "{kind: Traffic, service: a, loadBalancer: {policy: fastest}}",
		"two of a choice":       "{kind: Traffic, service: a, healthCheck: {path: /, tcp: {}}}",
		"none of a choice":      "{kind: Traffic, service: a, healthCheck: {interval: 1s}}",
		"keys that exclude":     "{kind: Traffic, service: a, routes: [{name: r, to: [{service: b}], directResponse: {status: 200}}]}",
		"status":                "{kind: Traffic, service: a, retries: {attempts: 1, on: [42]}}",
		"header":                `{kind: Traffic, service: a, routes: [{name: r, match: [{headers: {"x y": "1"}}]}]}`,
		"empty list":            "{kind: Traffic, service: a, routes: [{name: r, match: []}]}",
		"scalar for a list":     "{kind: Traffic, service: a, retries: {attempts: 1, on: reset}}",
	} {
		if err := schema.Validate(instance(t, text)); err == nil {
			t.Errorf("%s: the schema accepts %s", name, text)
		}
		if doc, _ := Parse(Source{Text: text, System: true}); doc != nil {
			t.Errorf("%s: the parser accepts %s", name, text)
		}
	}
}
