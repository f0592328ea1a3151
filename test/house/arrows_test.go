package house

import (
	"slices"
	"strings"
	"testing"
)

// arrows is the whole dependency graph of this repository: a package and which of ours it may import. "*" means
// all of those above it. The graph is what keeps a change local: policy knows nothing of Envoy, the translator
// nothing of Kubernetes, the server nothing of the mesh. So a new arrow is a change of the architecture: add it here
// and in ARCHITECTURE.md, with its reason, or find the interface that is missing at the consumer.
//
// Tests may import anything; they are no part of the product.
func arrows() []arrow {
	return []arrow{
		{"buildinfo", nil},
		{"model", nil},
		{"policy", nil},
		{"xds", nil},
		{"xds/hds", nil},
		{"injector/bootstrap", nil},
		{"injector/redirect", []string{"model"}},
		{"identity", nil},
		{"identity/attest", []string{"identity"}},
		{"bounded", nil},
		{"identity/service", []string{"bounded", "identity", "identity/attest"}},
		{"identity/client", []string{"identity"}},
		{"identity/hold", []string{"identity", "identity/client"}},
		{"kube/leader", nil},
		{"kube/webhooks", nil},
		{"identity/keep", []string{"identity", "kube/leader"}},
		{"controlplane/operator", nil},
		{"controlplane/api", []string{"buildinfo", "controlplane/operator"}},
		{"controlplane/reach", []string{"controlplane/api", "controlplane/operator", "identity"}},
		{"deploy", []string{"policy"}},
		{"examples", nil},
		{"examples/spiffe-app", nil},
		{"mesh", []string{"model", "policy"}},
		{"translator", []string{"model"}},
		{"kube", []string{"model", "policy"}},
		{"injector", []string{"model", "policy"}},
		{"injector/manifest", []string{"injector"}},
		{"admission", []string{"model", "policy", "kube", "injector"}},
		{"writeback", []string{"model", "policy", "mesh"}},
		{"filelock", nil},
		{"sidecar/envoy", []string{"injector/bootstrap", "filelock"}},
		{"observe", []string{"model"}},
		{"controlplane", []string{"*"}},
		{"check", []string{"buildinfo", "controlplane/api", "identity", "identity/keep", "identity/service"}},
		{"check/gather", []string{"check", "controlplane/api", "controlplane/operator", "controlplane/reach", "deploy", "injector"}},
		{"sidecar/sds", nil},
		{"sidecar/workloadapi", nil},
		{"sidecar/relay", nil},
		{"sidecar/probe", nil},
		{"sidecar", []string{"identity", "identity/hold", "injector/bootstrap", "sidecar/sds", "sidecar/workloadapi", "sidecar/relay", "sidecar/probe"}},
		{"cmd/heddle-sidecar", []string{"buildinfo", "sidecar", "sidecar/envoy", "sidecar/probe", "identity", "identity/client", "injector/bootstrap", "injector/redirect", "model", "controlplane/operator"}},
		{"local", []string{"*"}},
		{"demo", []string{"*"}},
		{"cmd/heddle", []string{"admission", "buildinfo", "check", "check/gather", "controlplane", "controlplane/api", "controlplane/operator", "controlplane/reach", "demo", "deploy", "identity", "identity/keep", "identity/service", "injector", "injector/manifest", "local", "policy", "kube", "sidecar/envoy"}},
	}
}

type arrow struct {
	from string
	to   []string
}

func TestPackagesImportOnlyWhatTheArchitectureAllows(t *testing.T) {
	may := map[string][]string{}
	var above []string
	for _, a := range arrows() {
		may[a.from] = a.to
		if slices.Equal(a.to, []string{"*"}) {
			may[a.from] = slices.Clone(above)
		}
		above = append(above, a.from)
	}
	for _, f := range parse(t) {
		pkg := f.Package()
		if f.IsTest() || strings.HasPrefix(pkg, "test/") {
			continue
		}
		allowed, known := may[pkg]
		if !known {
			t.Errorf("%s: package %s has no entry in the table of arrows: say what it may import", f.Path, pkg)
			continue
		}
		for _, to := range f.Imports() {
			if !slices.Contains(allowed, to) {
				t.Errorf("%s: new arrow %s -> %s; it may import only %q", f.Path, pkg, to, allowed)
			}
		}
	}
}

func parse(t *testing.T) []*File {
	t.Helper()
	files, err := Parse("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go file found: the rules were held against nothing")
	}
	return files
}
