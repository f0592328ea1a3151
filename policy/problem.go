package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Problem is something wrong with a document, where it stands, and what to do about it.
type Problem struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1, in characters
	Path     Path     `json:"path,omitempty"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"` // the next step
}

// String writes the problem as compilers do.
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s: ", cmp.Or(p.File, "-"), p.Line, p.Column, p.Code)
	if p.Severity == Warning {
		s += "warning: "
	}
	if p.Path != "" {
		s += string(p.Path) + ": "
	}
	s += p.Message
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// Failed says whether a problem among ps is an error, so that their document has no effect.
func Failed(ps []Problem) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == Error })
}

// Path leads to a value in a document: routes[0].match[1].headers["x-canary"].
type Path string

// Field leads to a key that the language knows.
func (at Path) Field(name string) Path {
	if at == "" {
		return Path(name)
	}
	return at + "." + Path(name)
}

// Index leads to an entry of a list.
func (at Path) Index(i int) Path { return at + Path("["+strconv.Itoa(i)+"]") }

// Key leads to a key that a person chose.
func (at Path) Key(k string) Path { return at + Path("["+strconv.Quote(clip(k))+"]") }

// maxProblems bounds what is told of one document: nobody reads more, and a hostile one could have a million.
const maxProblems = 100

// problems collects what is wrong with one document.
type problems struct {
	src   Source
	nodes map[Path]*yaml.Node // what was written
	keys  map[Path]*yaml.Node // the keys it was written under
	list  []Problem
}

func newProblems(src Source) *problems {
	return &problems{src: src, nodes: map[Path]*yaml.Node{}, keys: map[Path]*yaml.Node{}}
}

// add tells a problem with the value at a path, or with the nearest value around it if none was written there.
func (p *problems) add(at Path, code Code, hint, format string, args ...any) {
	if p.full() {
		return
	}
	line, column := p.nearby(at)
	p.addAt(line, column, Problem{Code: code, Path: at, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// nearby is the place of what was written at a path, or of the nearest value around it.
func (p *problems) nearby(at Path) (line, column int) {
	for i := len(at); i >= 0; i-- {
		if i > 0 && i < len(at) && at[i] != '.' && at[i] != '[' {
			continue // not the end of a step
		}
		if n := p.nodes[at[:i]]; n != nil {
			return n.Line, n.Column
		}
	}
	return 1, 1
}

// addKey is like add, but points at the key rather than at its value.
func (p *problems) addKey(at Path, code Code, hint, format string, args ...any) {
	if k := p.keys[at]; k != nil {
		p.addAt(k.Line, k.Column, Problem{Code: code, Path: at, Hint: hint, Message: fmt.Sprintf(format, args...)})
		return
	}
	p.add(at, code, hint, format, args...)
}

// addAt tells a problem at a place of the document's text.
func (p *problems) addAt(line, column int, pr Problem) {
	if p.full() {
		return
	}
	if len(p.list) == maxProblems {
		pr = Problem{Code: CodeTooMany, Message: fmt.Sprintf("more than %d problems", maxProblems), Hint: "mend these first"}
	}
	pr.Severity = pr.Code.Severity()
	pr.File = p.src.File
	pr.Line, pr.Column = p.src.place(line, column)
	p.list = append(p.list, pr)
}

// full says that no more problems are told.
func (p *problems) full() bool { return len(p.list) > maxProblems }

// wrote says whether a key was written, be its value good or not.
func (p *problems) wrote(at Path) bool { return p.nodes[at] != nil }

// sorted gives the problems in the order of their places.
func (p *problems) sorted() []Problem {
	slices.SortStableFunc(p.list, byPlace)
	return p.list
}

func byPlace(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Code, b.Code))
}

// clip shortens what a person wrote so that a message stays readable whatever it quotes.
func clip(s string) string {
	const most = 60
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most || len(s) > 4*most {
		return string(r[:min(len(r), most)]) + "..."
	}
	return s
}
