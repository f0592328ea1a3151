package policy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// codes lists the codes that are declared.
func codes(t *testing.T) []Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var cs []Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		c, err := strconv.ParseUint(spec.Values[0].(*ast.BasicLit).Value, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, Code(c))
		return true
	})
	return cs
}

func TestEveryCodeIsDocumentedWithItsCauseAndRemedy(t *testing.T) {
	text, err := os.ReadFile("../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, declared []string
	for _, m := range regexp.MustCompile(`(?m)^### (HDL\d+): .+\n\*\*Cause\.\*\* (?:.+\n)+\*\*Remedy\.\*\* .+\n`).FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	for _, c := range codes(t) {
		declared = append(declared, c.String())
	}
	slices.Sort(declared)
	if diff := cmp.Diff(declared, documented); diff != "" {
		t.Errorf("codes (-declared +documented in order):\n%s", diff)
	}
}

func TestEveryCodeIsOfSomeExample(t *testing.T) {
	missing := map[Code]bool{}
	for _, c := range codes(t) {
		// From 1611 on they are told where documents meet what is running, and tested there.
		missing[c] = c < CodeNoService
	}
	told := func(problems []Problem) {
		for _, p := range problems {
			delete(missing, p.Code)
		}
	}
	for _, a := range archives(t) {
		told(a.problems())
	}
	for _, c := range unreadable() {
		_, problems := Parse(Source{Text: c.text})
		told(problems)
	}
	_, problems := Parse(Source{Text: manyProblems()})
	told(problems)
	maps.DeleteFunc(missing, func(_ Code, wanted bool) bool { return !wanted })
	if len(missing) > 0 {
		t.Errorf("no example has a problem of %v", slices.Sorted(maps.Keys(missing)))
	}
}

// unreadable lists texts that do not belong into a file of test data.
func unreadable() []struct{ name, text, want string } {
	return []struct{ name, text, want string }{
		{"latin-1", "kind: Traffic\nservice: caf\xe9\n", `-:2:13: HDL1001: byte 0xe9 is not UTF-8; save the file as UTF-8`},
		{"NUL", "kind: Traffic\x00\n", `-:1:14: HDL1001: character U+0000 cannot be shown; remove it`},
		{"UTF-16", "\xff\xfek\x00i\x00", `-:1:1: HDL1001: byte 0xff is not UTF-8; save the file as UTF-8`},
		{"escape", "kind: \x1b[31mTraffic\n", `-:1:7: HDL1001: character U+001B cannot be shown; remove it`},
		{"line separator", "kind: Traffic\n# \u2028x\n", `-:2:3: HDL1001: character U+2028 cannot be shown; remove it`},
		{"lone carriage return", "kind: Traffic\rservice: a\n", `-:1:14: HDL1001: character U+000D cannot be shown; remove it`},
		{"too large", "#" + strings.Repeat(" ", maxText), `-:1:1: HDL1004: the document has 1048577 bytes, more than the 1048576 of a whole ConfigMap; spread it over several ConfigMaps`},
		{"empty", "", `-:1:1: HDL1005: there is no document; write one, beginning with its kind`},
		{"Windows line ends", "\ufeffkind: Traffic\r\nservice: a\r\ntimeout: 5\r\n", `-:3:10: HDL1202: timeout: "5" has no unit; write 5s or 5ms`},
		{"replacement character", "kind: Traffic\nservice: \ufffd\n", `-:2:10: HDL1205: service: "` + "\ufffd" + `" does not name a Service; write name or namespace/name`},
	}
}

func TestTextThatEditorsDoNotShowIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range unreadable() {
		t.Run(c.name, func(t *testing.T) {
			_, problems := Parse(Source{Text: c.text})
			if len(problems) != 1 || problems[0].String() != c.want {
				t.Errorf("got %v\nwant %s", problems, c.want)
			}
		})
	}
}

func manyProblems() string {
	return "kind: Traffic\nservice: a\nroutes:\n" + strings.Repeat("- name: a.b\n", 1000)
}

func TestTooManyProblemsAreCutOffAndSaidSo(t *testing.T) {
	_, problems := Parse(Source{Text: manyProblems()})
	if len(problems) != maxProblems+1 {
		t.Fatalf("%d problems", len(problems))
	}
	want := "-:104:9: HDL1009: more than 100 problems; mend these first"
	if !slices.ContainsFunc(problems, func(p Problem) bool { return p.String() == want }) {
		t.Errorf("none of the problems is %s; the last is %s", want, problems[maxProblems])
	}
}

func TestMoreRoutesOrTargetsThanADocumentMayHaveAreRefused(t *testing.T) {
	routes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- {name: r%d, match: [{path: {prefix: /%d}}]}\n", i, i)
		}
		return "kind: Traffic\nservice: a\nroutes:\n" + b.String()
	}
	targets := func(to, mirrors int) string {
		return "kind: Traffic\nservice: a\nroutes:\n- name: r\n  to:\n" + strings.Repeat("  - {service: a, weight: 1000000}\n", to) +
			"  mirror:\n" + strings.Repeat("  - {service: b}\n", mirrors)
	}
	for _, c := range []struct{ text, want string }{
		{routes(maxRoutes), ""},
		{routes(maxRoutes + 1), "-:4:1: HDL1201: routes: the document has 257 routes; write up to 256"},
		{targets(maxTargets-1, 1), ""},
		{targets(maxTargets, 1), "-:4:3: HDL1201: routes[0]: the route has 33 targets, to and mirror together; write up to 32"},
	} {
		_, problems := Parse(Source{Text: c.text})
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("got %v\nwant %s", got, c.want)
		}
	}
}
