package manifest

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/heddle-mesh/heddle/injector"
)

func rendered(in []byte) ([]byte, []Report, error) {
	f, err := Parse("in", in)
	if err != nil {
		return nil, nil, err
	}
	all := Namespaces{}
	if err := all.Add(f); err != nil {
		return nil, nil, err
	}
	return f.Render(Options{Namespace: "default", Namespaces: all}, injector.Options{Image: "heddle-proxy:1.0", Seed: "seed"})
}

// TestRenderGolden holds what heddle inject --manual makes of testdata/render/*.txtar. Once must be as good as twice, and
// heddle uninject must lead back to the same pods.
func TestRenderGolden(t *testing.T) {
	paths := must(filepath.Glob("testdata/render/*.txtar"))
	if len(paths) == 0 {
		t.Fatal("no golden files")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive := must(txtar.ParseFile(path))
			in := archive.Files[0].Data
			got := []txtar.File{{Name: "in", Data: in}}
			out, reports, err := rendered(in)
			if err != nil {
				got = append(got, txtar.File{Name: "error", Data: []byte(err.Error() + "\n")})
			} else {
				back, _, err := uninjected(out)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, txtar.File{Name: "out", Data: out}, txtar.File{Name: "report", Data: []byte(lines(reports))}, txtar.File{Name: "back", Data: back})
				if again, _, err := rendered(out); err != nil || !bytes.Equal(out, again) {
					t.Errorf("twice is not as once: %v\n%s", err, cmp.Diff(string(out), string(again)))
				}
			}
			hold(t, path, archive, got)
		})
	}
}
