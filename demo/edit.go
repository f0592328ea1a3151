package demo

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// edits says what changed between two versions of a policy document, in the document's own words:
// routes[canary].to[0].weight 90 -> 50. Nothing if either cannot be read, or nothing that counts changed.
func edits(before, after string) []string {
	var a, b any
	if yaml.Unmarshal([]byte(before), &a) != nil || yaml.Unmarshal([]byte(after), &b) != nil {
		return nil
	}
	return differences("", a, b)
}

func differences(path string, a, b any) []string {
	ma, oka := a.(map[string]any)
	mb, okb := b.(map[string]any)
	if oka && okb {
		return mapDifferences(path, ma, mb)
	}
	la, oka := a.([]any)
	lb, okb := b.([]any)
	if oka && okb {
		return listDifferences(path, la, lb)
	}
	switch {
	case a == nil:
		return []string{path + " added" + brief(b)}
	case b == nil:
		return []string{path + " removed" + brief(a)}
	case reflect.DeepEqual(a, b):
		return nil
	}
	return []string{path + brief(a) + " ->" + brief(b)}
}

func mapDifferences(path string, a, b map[string]any) []string {
	var out []string
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		at := k
		if path != "" {
			at = path + "." + k
		}
		out = append(out, differences(at, a[k], b[k])...)
	}
	return out
}

func listDifferences(path string, a, b []any) []string {
	var out []string
	for i := range max(len(a), len(b)) {
		var was, is any
		if i < len(a) {
			was = a[i]
		}
		if i < len(b) {
			is = b[i]
		}
		out = append(out, differences(path+"["+nameOf(is, was, i)+"]", was, is)...)
	}
	return out
}

// nameOf is how people call an entry of a list: by its name, if it has one.
func nameOf(is, was any, i int) string {
	for _, v := range []any{is, was} {
		if m, ok := v.(map[string]any); ok {
			if name, ok := m["name"].(string); ok {
				return name
			}
		}
	}
	return strconv.Itoa(i)
}

// brief writes a value after a colon or arrow, if it is short.
func brief(v any) string {
	switch v.(type) {
	case map[string]any, []any:
		return ""
	}
	return " " + fmt.Sprint(v)
}
