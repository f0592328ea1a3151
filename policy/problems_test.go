package policy

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what came out as what is wanted")

// example is a file of policies and what is to be said about it.
type archive struct {
	path  string
	files *txtar.Archive // the last one is called want
}

func archives(t testing.TB) []archive {
	t.Helper()
	paths, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	var as []archive
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if last := a.Files[len(a.Files)-1].Name; last != "want" {
			t.Fatalf("%s ends in %s; the last file is called want", path, last)
		}
		as = append(as, archive{path, a})
	}
	return as
}

// problems parses all files of the archive, one by one and then together.
func (a archive) problems() []Problem {
	var items []Item
	var problems []Problem
	for _, f := range a.files.Files[:len(a.files.Files)-1] {
		found, ps := ParseFile(f.Name, f.Data, Where{System: "heddle-system"})
		items = append(items, found...)
		problems = append(problems, ps...)
	}
	return append(problems, Together(items)...)
}

func TestEveryProblemIsToldWithItsPlaceAndANextStep(t *testing.T) {
	for _, a := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(a.path), ".txtar"), func(t *testing.T) {
			var got strings.Builder
			for _, p := range a.problems() {
				got.WriteString(p.String() + "\n")
				if p.Hint == "" {
					t.Errorf("no next step: %s", p)
				}
			}
			want := &a.files.Files[len(a.files.Files)-1]
			if *update {
				want.Data = []byte(got.String())
				if err := os.WriteFile(a.path, txtar.Format(a.files), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), got.String()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
