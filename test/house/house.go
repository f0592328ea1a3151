// Package house holds the rules that keep this code readable, as tests over its source: which package may import
// which (arrows_test.go), how large things may grow (marks_test.go), and which tests look for secrets (secrets_test.go). A rule that has to give way does so in the
// exceptions list beside it, with the reason.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Module is the path of the module whose source is looked at.
const Module = "github.com/heddle-mesh/heddle"

// File is one parsed Go file.
type File struct {
	Path  string // from the repository's root, with slashes
	Lines int
	Fset  *token.FileSet
	AST   *ast.File
}

// Package is the folder that the file is in, from the repository's root.
func (f *File) Package() string { return path.Dir(f.Path) }

// IsTest says whether the file is compiled into tests only.
func (f *File) IsTest() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Imports are the packages of this module that the file imports, from the repository's root.
func (f *File) Imports() []string {
	var ours []string
	for _, spec := range f.AST.Imports {
		if pkg, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), Module+"/"); ok {
			ours = append(ours, pkg)
		}
	}
	return ours
}

// Parse reads every Go file under root, without testdata, hidden folders and other modules.
func Parse(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(root, name)
		case filepath.Ext(name) != ".go":
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		lines := strings.Count(string(src), "\n")
		files = append(files, &File{Path: filepath.ToSlash(rel), Lines: lines, Fset: fset, AST: parsed})
		return nil
	})
	return files, err
}

// skip gives fs.SkipDir for folders that hold no source of this module.
func skip(root, dir string) error {
	base := filepath.Base(dir)
	if dir == root {
		return nil
	}
	if base == "testdata" || strings.HasPrefix(base, ".") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}
