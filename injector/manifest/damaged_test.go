package manifest

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestWhatIsPutIntoDamagedTextsComesOutAgain damages the texts of the golden files at random, always in the same way, with
// what YAML is made of. Most become something else that is YAML, or nothing that is.
func TestWhatIsPutIntoDamagedTextsComesOutAgain(t *testing.T) {
	paths := must(filepath.Glob("testdata/*.txtar"))
	var texts [][]byte
	for _, path := range paths {
		for _, f := range must(txtar.ParseFile(path)).Files {
			if f.Name == "in" || f.Name == "out" {
				texts = append(texts, f.Data)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	good := 0
	const tries = 800
	for range tries {
		in := damage(r, texts[r.IntN(len(texts))])
		out, _, err := injected(in)
		if err != nil {
			continue
		}
		good++
		thereAndBack(t, in, out)
		if t.Failed() {
			t.Fatalf("it was %q", in)
		}
	}
	if good < tries/10 {
		t.Errorf("only %d of %d texts were still manifests: the damage is too great to find anything", good, tries)
	}
}

func damage(r *rand.Rand, text []byte) []byte {
	parts := []string{
		"\n", " ", "  ", ":", "{", "}", "[", "]", ",", "#", "- ", "null", "~", "{}", "metadata", "annotations", "\r\n", "\t", "'", `"`,
		"&a ", "*a", "|", ">", "---\n", "...\n", "é", "\u2028", "heddle.dev/inject: enabled", "? ", "!!map ", "labels", "<<: ",
	}
	for range 1 + r.IntN(4) {
		at := r.IntN(len(text) + 1)
		rest := text[at:]
		switch r.IntN(3) {
		case 0:
			rest = append([]byte(parts[r.IntN(len(parts))]), rest...)
		case 1:
			rest = rest[min(1, len(rest)):]
		case 2:
			rest = rest[r.IntN(min(len(rest)+1, 30)):]
		}
		text = append(text[:at:at], rest...)
	}
	return text
}
