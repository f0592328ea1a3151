package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The marks. They are a smell's threshold, not a goal: what exceeds one usually lacks a concept.
const (
	maxFileLines  = 500
	maxFuncLines  = 60
	maxComplexity = 20
	maxParameters = 6
)

// exceptions are findings that stay, each with its reason. A finding that is gone must leave this list too.
func exceptions() map[string]string {
	return map[string]string{
		"buildinfo/buildinfo.go var version": "the linker sets it (-X), and nothing else can",
	}
}

func TestCodeStaysWithinItsMarks(t *testing.T) {
	allowed, met := exceptions(), map[string]bool{}
	for _, f := range parse(t) {
		for _, finding := range findings(f) {
			if _, ok := allowed[finding.key]; ok {
				met[finding.key] = true
				continue
			}
			t.Errorf("%s: %s (exception key %q)", finding.at, finding.what, finding.key)
		}
	}
	for key := range allowed {
		if !met[key] {
			t.Errorf("exception %q is no longer needed: remove it", key)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string]string{}
	for _, f := range parse(t) {
		docs[f.Package()] += f.AST.Doc.Text()
	}
	for pkg, doc := range docs {
		if len(strings.Fields(doc)) < 5 {
			t.Errorf("package %s has no package comment: say in a sentence what it is for", pkg)
		}
	}
}

func TestMarksFindWhatTheyAreFor(t *testing.T) {
	dir := t.TempDir()
	src := "package p\n\nvar state = map[string]int{}\n\nfunc init() {}\n\nfunc F(a, b, c, d, e, f int, g bool) {" +
		strings.Repeat("\n\tif a == b && c == d {\n\t}\n", 20) + "}\n" + strings.Repeat("\n", maxFileLines)
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := Parse(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range findings(files[0]) {
		got = append(got, f.key)
	}
	want := []string{
		"p.go lines", "p.go var state", "p.go init", "p.go complexity F", "p.go length F", "p.go parameters F", "p.go bool F",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

type finding struct {
	key  string // path, rule and name: stable when lines move
	at   string
	what string
}

// findings holds a file against the marks. Of test files only size and complexity count: a table of cases may be
// as long as the cases are many.
func findings(f *File) []finding {
	var found []finding
	add := func(pos token.Pos, rule, name, format string, args ...any) {
		at := fmt.Sprintf("%s:%d", f.Path, f.Fset.Position(pos).Line)
		found = append(found, finding{strings.TrimRight(f.Path+" "+rule+" "+name, " "), at, fmt.Sprintf(format, args...)})
	}
	if f.Lines > maxFileLines {
		add(f.AST.Package, "lines", "", "the file has %d lines, more than %d", f.Lines, maxFileLines)
	}
	for _, decl := range f.AST.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if n := complexity(d); n >= maxComplexity {
				add(d.Pos(), "complexity", d.Name.Name, "%s has cyclomatic complexity %d, not under %d", d.Name.Name, n, maxComplexity)
			}
			if !f.IsTest() {
				funcFindings(f, d, add)
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR && !f.IsTest() {
				varFindings(d, add)
			}
		}
	}
	return found
}

type adder func(pos token.Pos, rule, name, format string, args ...any)

func funcFindings(f *File, d *ast.FuncDecl, add adder) {
	name := d.Name.Name
	lines := f.Fset.Position(d.End()).Line - f.Fset.Position(d.Pos()).Line + 1
	if lines > maxFuncLines {
		add(d.Pos(), "length", name, "%s has %d lines, more than %d", name, lines, maxFuncLines)
	}
	if n := d.Type.Params.NumFields(); n > maxParameters {
		add(d.Pos(), "parameters", name, "%s has %d parameters, more than %d: use a struct", name, n, maxParameters)
	}
	if name == "init" && d.Recv == nil {
		add(d.Pos(), "init", "", "init() runs behind everybody's back: make it a function that is called")
	}
	for _, p := range d.Type.Params.List {
		if id, ok := p.Type.(*ast.Ident); ok && id.Name == "bool" && d.Name.IsExported() {
			add(p.Pos(), "bool", name, "%s has a bool parameter: a reader of the call cannot tell what it means", name)
		}
	}
}

// varFindings reports package-level variables other than constants in all but name.
func varFindings(d *ast.GenDecl, add adder) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		embedded := hasDirective(d.Doc, "//go:embed") || hasDirective(v.Doc, "//go:embed")
		for i, name := range v.Names {
			if name.Name == "_" || embedded || (i < len(v.Values) && isConstant(v.Values[i])) {
				continue
			}
			add(name.Pos(), "var", name.Name, "package variable %s: pass state in, or make it a function", name.Name)
		}
	}
}

func hasDirective(g *ast.CommentGroup, prefix string) bool {
	return g != nil && slices.ContainsFunc(g.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, prefix)
	})
}

// isConstant says that a value cannot be changed after its creation, by the call that makes it.
func isConstant(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains([]string{
		"errors.New", "fmt.Errorf", "regexp.MustCompile", "netip.MustParseAddr", "netip.MustParsePrefix", "netip.AddrFrom4",
		"prometheus.NewDesc",
	}, pkg.Name+"."+sel.Sel.Name)
}

// complexity is McCabe's: one and the number of decisions. A function literal counts into what it stands in.
func complexity(d *ast.FuncDecl) int {
	n := 1
	ast.Inspect(d, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}
