package manifest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestGolden holds what becomes of manifests against testdata/*.txtar. Each has in, and what heddle inject makes of it: out
// and report, or error. Taking it out again must give the same bytes, and asking twice must be the same as once.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	archive := must(txtar.ParseFile(path))
	in := archive.Files[0].Data
	got := []txtar.File{{Name: "in", Data: in}}
	out, reports, err := injected(in)
	if err != nil {
		got = append(got, txtar.File{Name: "error", Data: []byte(err.Error() + "\n")})
	} else {
		got = append(got, txtar.File{Name: "out", Data: out}, txtar.File{Name: "report", Data: []byte(lines(reports))})
		thereAndBack(t, in, out)
	}
	hold(t, path, archive, got)
}

// hold compares what came of a golden file with what stands in it, or writes it anew.
func hold(t *testing.T, path string, archive *txtar.Archive, got []txtar.File) {
	t.Helper()
	if *update {
		archive.Files = got
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(archive.Files, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// injected is a whole call of heddle inject.
func injected(in []byte) ([]byte, []Report, error) {
	f, err := Parse("in", in)
	if err != nil {
		return nil, nil, err
	}
	all := Namespaces{}
	if err := all.Add(f); err != nil {
		return nil, nil, err
	}
	return f.Inject(Options{Namespace: "default", Namespaces: all})
}

func uninjected(in []byte) ([]byte, []Report, error) {
	f, err := Parse("in", in)
	if err != nil {
		return nil, nil, err
	}
	return f.Uninject()
}

// thereAndBack holds what was injected to what it was before.
func thereAndBack(t *testing.T, in, out []byte) {
	t.Helper()
	again, _, err := injected(out)
	if err != nil {
		t.Fatalf("asked for twice: %v\n%s", err, out)
	}
	if diff := cmp.Diff(string(out), string(again)); diff != "" {
		t.Errorf("asked for twice (-once +twice):\n%s", diff)
	}
	if none, _, err := uninjected(in); err != nil || !bytes.Equal(none, in) {
		return // it was asked for before, in part, and what was there before goes too
	}
	back, _, err := uninjected(out)
	if err != nil {
		t.Fatalf("taken out again: %v\n%s", err, out)
	}
	if diff := cmp.Diff(string(in), string(back)); diff != "" {
		t.Errorf("taken out again (-before +after):\n%s", diff)
	}
}

// FuzzInjectAndUninject holds that what is put into any text comes out again without a trace, and that once is enough.
func FuzzInjectAndUninject(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		for _, file := range must(txtar.ParseFile(path)).Files {
			if file.Name == "in" || file.Name == "out" {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if out, _, err := injected(in); err == nil {
			thereAndBack(t, in, out)
		}
	})
}

func lines(reports []Report) string {
	var b strings.Builder
	for _, r := range reports {
		fmt.Fprintf(&b, "%d: %s %s", r.Line, r, []string{"unchanged", "changed", "skipped: "}[r.Change])
		b.WriteString(r.Reason + "\n")
		for _, w := range r.Warnings {
			b.WriteString("  " + w + "\n")
		}
	}
	return b.String()
}

func TestNothingIsAskedForBesideTheControlPlaneWhereverItIs(t *testing.T) {
	const text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mesh\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: mesh\nspec:\n  containers:\n  - {name: app, image: app}\n"
	for system, want := range map[string]Change{"mesh": Skipped, "": Changed} {
		_, reports, err := must(Parse("in", []byte(text))).Inject(Options{System: system, Namespaces: Namespaces{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports {
			if r.Change != want {
				t.Errorf("with the control plane in %q, %s becomes %v, not %v", system, r, r.Change, want)
			}
		}
	}
}
