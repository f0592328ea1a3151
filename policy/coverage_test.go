package policy

import (
	"reflect"
	"testing"
)

func TestWhatABrokenAccessDocumentCoversIsReadFromIt(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Coverage
		is         bool
	}{
		{"a Service", "kind: Access\nservice: catalog\nmode: enforced\n", Coverage{Service: "catalog"}, true},
		{"labels", "kind: Access\nworkload: {app: catalog}\nrules: 1\n", Coverage{Workload: Labels{"app": "catalog"}}, true},
		{"a misspelt key", "kind: Access\nworklod: {app: catalog}\n", Coverage{Workload: Labels{"app": "catalog"}}, true},
		{"a misspelt kind", "kind: acces\nservice: catalog\n", Coverage{Service: "catalog"}, true},
		{"no kind", "rules: [{}]\nservice: catalog\n", Coverage{Service: "catalog"}, true},
		{"labels that no pod can have", "kind: Access\nworkload: {app: a b}\n", Coverage{}, true},
		{"a list for labels", "kind: Access\nworkload: [app, catalog]\n", Coverage{}, true},
		{"a list in labels", "kind: Access\nworkload: {app: [catalog]}\n", Coverage{}, true},
		{"another namespace's Service", "kind: Access\nservice: shop/catalog\n", Coverage{}, true},
		{"two Services", "kind: Access\nservice: a\nservice: b\n", Coverage{}, true},
		{"both", "kind: Access\nservice: a\nworkload: {app: a}\n", Coverage{}, true},
		{"the namespace", "kind: Access\ndefault: denied\n", Coverage{}, true},
		{"no YAML", "kind: Access\nservice: catalog\n rules: [\n", Coverage{}, true},
		{"no YAML in braces", "{kind: Access, rules: [}\n", Coverage{}, true},
		{"audit", "kind: Access\nmode: audit\nrules: 1\n", Coverage{}, false},
		{"audit and enforce", "kind: Access\nmode: audit\nmode: enforce\nrules: 1\n", Coverage{}, true},
		{"audit with mtls", "kind: Access\nmode: audit\nmtls: strickt\nrules: 1\n", Coverage{}, true},
		{"another kind", "kind: Traffic\nservice: catalog\ntimeout: 5\n", Coverage{}, false},
		{"another kind, no YAML", "kind: Traffic\n# kind: Access\n service: [\n", Coverage{}, false},
		{"nothing", "", Coverage{}, false},
		{"a list", "- kind: Access\n", Coverage{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, is := Covered(c.text)
			if is != c.is || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v", got, is)
			}
		})
	}
}
