package house

import (
	"slices"
	"strings"
	"testing"
)

// lookless are packages whose sidecars nobody looks at for secrets, and why.
func lookless() map[string]string {
	return map[string]string{
		"test/hop": "a benchmark, whose sidecars log nothing",
	}
}

// Keys and tokens must not be in what a mesh leaves behind, and each test that runs one looks.
func TestWhoeverRunsSidecarsInATestLooksForSecretsInWhatTheySay(t *testing.T) {
	files, err := Parse("../..")
	if err != nil {
		t.Fatal(err)
	}
	runs, looks := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		if !f.IsTest() && !strings.HasPrefix(f.Path, "test/") {
			continue
		}
		for _, pkg := range f.Imports() {
			runs[f.Package()] = runs[f.Package()] || slices.Contains([]string{"local", "sidecar"}, pkg)
			looks[f.Package()] = looks[f.Package()] || pkg == "test/secrets"
		}
	}
	found := 0
	for pkg := range runs {
		if !runs[pkg] || lookless()[pkg] != "" {
			continue
		}
		found++
		if !looks[pkg] {
			t.Errorf("the tests of %s run sidecars and look for no secrets: hand what they say to a test/secrets.Scan", pkg)
		}
	}
	if found < 5 {
		t.Errorf("found only %d packages whose tests run sidecars", found)
	}
}
