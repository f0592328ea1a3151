package console

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "Text.\n\n```console\n$ one \\\n    --flag\n$ two\nNAME  READY\n…     1/1\n```\n\n```yaml\n$ no command\n```\n\n```console\n$ three\n…\nlast\n```\n"

func TestCommandsAndTheirOutputAreReadFromConsoleBlocksAlone(t *testing.T) {
	got, err := Steps(document)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Line: 4, Command: "one --flag"},
		{Line: 6, Command: "two", Output: []string{"NAME  READY", "…     1/1"}},
		{Line: 16, Command: "three", Output: []string{"…", "last"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOutputBeforeAnyCommandOfItsBlockIsAnError(t *testing.T) {
	for _, document := range []string{"```console\noutput\n```\n", "```console\n$ a\n```\n```console\noutput\n```\n", "```console\n$ a \\\n```\n"} {
		if steps, err := Steps(document); err == nil {
			t.Errorf("%q is read as %v", document, steps)
		}
	}
}

func TestWhatIsPrintedIsHeldAgainstTheDocument(t *testing.T) {
	for _, c := range []struct {
		name    string
		want    []string
		printed string
		good    bool
	}{
		{"nothing is said of it", nil, "anything\n", true},
		{"the same", []string{"a", "b"}, "a\nb\n", true},
		{"other widths of columns", []string{"NAME  READY"}, "NAME            READY   \n", true},
		{"any text in a line", []string{"pod/web-… Ready"}, "pod/web-7f9 Ready\n", true},
		{"any lines at the front", []string{"…", "end"}, "1\n2\nend\n", true},
		{"no line where any number may be", []string{"a", "…", "b"}, "a\nb\n", true},
		{"no output at all where any may be", []string{"…"}, "", true},
		{"one line more", []string{"a"}, "a\nb\n", false},
		{"one line less", []string{"a", "b"}, "a\n", false},
		{"another text", []string{"a…c"}, "abd\n", false},
		{"words run together", []string{"a b"}, "ab\n", false},
		{"a point is a point", []string{"1.2"}, "1x2\n", false},
		{"any text ends with its line", []string{"a…c"}, "ab\nbc\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := (Step{Output: c.want}).Printed(c.printed); (err == nil) != c.good {
				t.Error(err)
			}
		})
	}
}
