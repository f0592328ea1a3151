package translator_test

import (
	"os"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
)

// exampleReceiver is what the sidecar of a pod in an example is told.
func exampleReceiver(t *testing.T, file string, pod model.Key) (receiver, *mesh.State) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := stateOf(t, &txtar.Archive{Files: []txtar.File{{Name: "mesh.yaml", Data: text}}})
	r := translator.Inbound(s.Workload(pod), translator.Capture{})
	envoyAccepts(t, everythingIn(s, translator.Capture{}))
	return receiverOf(t, r), s
}

func TestTheExamplesOfAccessLetThoseInWhomTheyName(t *testing.T) {
	catalog := model.Key{Namespace: "shop", Name: "catalog-1"}
	for _, c := range []struct {
		file string
		pod  model.Key
		call call
		want bool
	}{
		{"../examples/default-deny.yaml", catalog, call{port: 8080, namespace: "shop", sa: "web", method: "GET", path: "/items"}, true},
		{"../examples/default-deny.yaml", catalog, call{port: 8080, namespace: "shop", sa: "web", method: "PUT", path: "/items"}, false},
		{"../examples/default-deny.yaml", catalog, call{port: 8080, namespace: "shop", sa: "web", method: "GET", path: "/debug/pprof"}, false},
		{"../examples/default-deny.yaml", catalog, call{port: 8080, namespace: "a", sa: "b", method: "GET", path: "/version"}, true},
		{"../examples/default-deny.yaml", catalog, call{port: 8080, method: "GET", path: "/version"}, false},
		{"../examples/default-deny.yaml", catalog, call{port: 9999, namespace: "shop", sa: "web"}, false},
		{"../examples/strict-namespace.yaml", catalog, call{port: 9100, method: "GET", path: "/metrics"}, true},
		{"../examples/strict-namespace.yaml", catalog, call{port: 9100, method: "GET", path: "/"}, false},
		{"../examples/strict-namespace.yaml", catalog, call{port: 8080, method: "GET", path: "/metrics"}, false},
		{"../examples/strict-namespace.yaml", catalog, call{port: 8080, namespace: "shop", sa: "any", method: "DELETE", path: "/"}, true},
		{"../examples/strict-namespace.yaml", catalog, call{port: 8080, namespace: "shops", sa: "any", method: "GET", path: "/"}, false},
		{"../examples/job-access.yaml", model.Key{Namespace: "data", Name: "ledger-0"}, call{port: 5432, namespace: "shop", sa: "nightly-report"}, true},
		{"../examples/job-access.yaml", model.Key{Namespace: "data", Name: "ledger-0"}, call{port: 5432, namespace: "shop", sa: "nightly"}, false},
		{"../examples/job-access.yaml", model.Key{Namespace: "data", Name: "ledger-0"}, call{port: 5432}, false},
	} {
		r, s := exampleReceiver(t, c.file, c.pod)
		if got, _ := r.may(t, c.call); got != c.want {
			t.Errorf("%s: %+v passes: %v", c.file, c.call, got)
		}
		for _, p := range s.Policies() {
			for _, problem := range p.Problems {
				t.Errorf("%s: %s", c.file, problem)
			}
		}
	}
}
