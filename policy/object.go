package policy

import (
	"maps"
	"slices"
	"strings"
)

// Object is a labelled ConfigMap as the API server has it.
type Object struct {
	Namespace string
	Name      string
	Data      map[string]string
	Binary    []string // keys of its binaryData
	System    string   // the control plane's namespace
}

// ParseObject reads the documents of a ConfigMap, as [ParseFile] does where one stands in a file. Places are those in each
// document, with its key in the ConfigMap's data as the file.
func ParseObject(o Object) ([]Item, []Problem) {
	f := &file{where: Where{Namespace: o.Namespace, System: o.System}}
	if len(o.Data) == 0 && len(o.Binary) == 0 {
		f.tellObject(Problem{Code: CodeConfigMap, Message: "the ConfigMap has no data", Hint: "write data: with a key such as traffic.yaml, or delete it"})
	}
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		if !strings.HasSuffix(key, ".yaml") {
			f.tellObject(ignoredKey(key))
			continue
		}
		f.item(Item{
			Source: Source{File: key, Text: o.Data[key]}, Line: 1,
			Namespace: o.Namespace, ConfigMap: o.Name, Key: key,
		})
	}
	for _, key := range slices.Sorted(slices.Values(o.Binary)) {
		if strings.HasSuffix(key, ".yaml") {
			f.tellObject(Problem{Code: CodeEncoding, Path: Path("binaryData").Key(key), Message: "is binary, and a policy is text",
				Hint: "write it under data, in UTF-8"})
		}
	}
	slices.SortStableFunc(f.problems, byPlace)
	return f.items, f.problems
}

// tellObject tells a problem of the ConfigMap itself, which has no place in a document.
func (f *file) tellObject(p Problem) {
	p.Severity, p.Line, p.Column = p.Code.Severity(), 1, 1
	f.problems = append(f.problems, p)
}

// ignoredKey tells a key of a ConfigMap's data that holds no document.
func ignoredKey(key string) Problem {
	return Problem{
		Code: CodeIgnoredKey, Path: Path("data").Key(key), Message: "is ignored, since its name does not end in .yaml",
		Hint: "call it " + clip(strings.TrimSuffix(key, ".yml")) + ".yaml if it is a policy",
	}
}
