package wire_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryExampleIsUsedByATestAndListed(t *testing.T) {
	const examples = "../../examples"
	list, err := os.ReadFile(filepath.Join(examples, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := readAll(t, "../*/*_test.go") + readAll(t, "../../translator/*_test.go")
	files, err := filepath.Glob(filepath.Join(examples, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d examples (%v)", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if !strings.Contains(tests, `wire.Start(t, "`+name+`")`) && !strings.Contains(tests, "examples/"+name+".yaml") {
			t.Errorf("no test loads example %s", name)
		}
		if !strings.Contains(string(list), "("+name+".yaml)") {
			t.Errorf("examples/README.md does not list %s", name)
		}
	}
}

func readAll(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
