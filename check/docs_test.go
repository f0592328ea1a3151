package check

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// docs reads docs/cli.md.
func docs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheDocumentShowsWhatIsPrinted(t *testing.T) {
	f, _ := healthy(t)
	f.Deployments.Value["heddle"].Status.ReadyReplicas = 0
	f.Namespace.Value.Labels = nil
	f.Latest = Fact[string]{Err: errors.New("no such host")}
	r := Evaluate(f, everything())
	var b strings.Builder
	if err := r.Write(&b, Plain); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(docs(t), "```text\n"+b.String()+"```") {
		t.Errorf("docs/cli.md does not show this:\n%s", b.String())
	}
}

func TestEveryCheckIsInTheDocument(t *testing.T) {
	text := docs(t)
	for _, mode := range []Options{everything(), {Now: noon(), Mode: Pre}} {
		f, _ := healthy(t)
		for _, s := range Evaluate(f, mode).Sections {
			for _, c := range s.Checks {
				name := c.Name
				if strings.HasPrefix(name, "can-create-") {
					name = "can-create-KIND"
				}
				if !strings.Contains(text, "`"+name+"`") {
					t.Errorf("docs/cli.md does not tell of check %s", name)
				}
			}
		}
	}
}
