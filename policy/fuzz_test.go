package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// FuzzParse holds the parser to what must be true of any text: it returns, soon, problems that point into the text,
// and a document that does not depend on how its text was laid out.
func FuzzParse(f *testing.F) {
	for _, a := range archives(f) {
		for _, file := range a.files.Files[:len(a.files.Files)-1] {
			f.Add(string(file.Data))
			items, _ := ParseFile(file.Name, file.Data, Where{})
			for _, it := range items {
				f.Add(it.Source.Text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		doc, problems := Parse(Source{Text: text, File: "x", System: true})
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		checkProblems(t, text, problems)
		if (doc == nil) != Failed(problems) {
			t.Errorf("document %v beside problems %v", doc, problems)
		}
		if doc != nil {
			checkLayout(t, text, doc)
		}
		items, problems := ParseFile("x", []byte(text), Where{})
		checkProblems(t, text, problems)
		for _, it := range items {
			if it.Document == nil && !Failed(problems) {
				t.Errorf("%s has no document, and no problem says why", it.Name())
			}
		}
		Together(items)
	})
}

func checkProblems(t *testing.T, text string, problems []Problem) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, p := range problems {
		if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len([]rune(lines[p.Line-1]))+1 {
			t.Errorf("outside of the text: %s", p)
		}
		if p.Message == "" || p.Hint == "" || p.Severity != p.Code.Severity() {
			t.Errorf("incomplete: %#v", p)
		}
	}
}

// checkLayout writes the text of a good document in another layout, which must say the same.
func checkLayout(t *testing.T, text string, doc *Document) {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatalf("a good document cannot be read again: %v", err)
	}
	flow(&root)
	other, err := yaml.Marshal(&root)
	if err != nil {
		t.Fatalf("a good document cannot be written again: %v", err)
	}
	again, problems := Parse(Source{Text: string(other), System: true})
	if diff := cmp.Diff(doc, again); diff != "" {
		t.Errorf("in another layout it says something else (-first +again):\n%s\n%s\n%v", diff, other, problems)
	}
}

// flow takes comments away and puts everything between brackets.
func flow(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		n.Style = yaml.FlowStyle
	}
	for _, c := range n.Content {
		flow(c)
	}
}
