package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// text knows where in its bytes the parser's lines and columns are.
type text struct {
	bytes []byte
	lines []int // offset of each line's first byte
	edits []edit
}

// edit puts something in the place of some bytes.
type edit struct {
	at, length int
	insert     string
}

func newText(b []byte) *text {
	t := &text{bytes: b, lines: []int{0}}
	for i := 0; i < len(b); {
		n := breakAt(b[i:])
		if n == 0 {
			i++
			continue
		}
		i += n
		t.lines = append(t.lines, i)
	}
	return t
}

// breakAt gives the length of the line break that b begins with, 0 if it does not. YAML 1.1 has more of them than most
// know, and the parser counts them.
func breakAt(b []byte) int {
	for _, s := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(b, []byte(s)) {
			return len(s)
		}
	}
	return 0
}

// offset gives the place of a node. The parser counts columns in characters.
func (t *text) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(t.lines) {
		return len(t.bytes)
	}
	at := t.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(t.bytes[at:])
		at += size
	}
	return at
}

// from is what begins at an offset.
func (t *text) from(at int) []byte { return t.bytes[min(at, len(t.bytes)):] }

// lineStart and lineEnd are those of the line that an offset is in, without its break.
func (t *text) lineStart(at int) int {
	i, found := slices.BinarySearch(t.lines, at)
	if !found {
		i--
	}
	return t.lines[i]
}

func (t *text) lineEnd(at int) int {
	for at < len(t.bytes) && breakAt(t.bytes[at:]) == 0 {
		at++
	}
	return at
}

// newline is the break at the end of a line; where the text ends there, that of the line before.
func (t *text) newline(at int) string {
	end := t.lineEnd(at)
	if n := breakAt(t.from(end)); n > 0 {
		return string(t.bytes[end : end+n])
	}
	start := t.lineStart(at)
	if bytes.HasSuffix(t.bytes[:start], []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// blanks gives the length of the white space from an offset on, line breaks included.
func (t *text) blanks(at int) int {
	n := 0
	for at+n < len(t.bytes) && strings.IndexByte(" \t\r\n", t.bytes[at+n]) >= 0 {
		n++
	}
	return n
}

// token gives the end of a scalar that is written plainly or in quotes, without escapes.
func (t *text) token(n *yaml.Node) (end int, err error) {
	at := t.offset(n)
	for _, quote := range []string{"", `"`, "'"} {
		if raw := quote + n.Value + quote; n.Value != "" && bytes.HasPrefix(t.from(at), []byte(raw)) {
			return at + len(raw), nil
		}
	}
	return 0, fmt.Errorf("line %d: %q is written in an unusual way", n.Line, n.Value)
}

// colon gives the offset after the colon of a key.
func (t *text) colon(key *yaml.Node) (int, error) {
	at, err := t.token(key)
	if err != nil {
		return 0, err
	}
	for at < len(t.bytes) && strings.IndexByte(" \t", t.bytes[at]) >= 0 {
		at++
	}
	if at == len(t.bytes) || t.bytes[at] != ':' {
		return 0, fmt.Errorf("line %d: no colon follows %q", key.Line, key.Value)
	}
	return at + 1, nil
}

// brace gives the offset after the opening brace of a flow mapping.
func (t *text) brace(n *yaml.Node) (int, error) {
	at := t.offset(n)
	i := bytes.IndexByte(t.from(at), '{')
	if i < 0 || i > 0 && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 {
		return 0, fmt.Errorf("line %d: no brace where a mapping begins", n.Line)
	}
	return at + i + 1, nil
}

func (t *text) edit(at, length int, insert string) {
	t.edits = append(t.edits, edit{at, length, insert})
}

// apply gives the bytes with all edits.
func (t *text) apply() ([]byte, error) {
	slices.SortStableFunc(t.edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	var out bytes.Buffer
	done := 0
	for _, e := range t.edits {
		if e.at < done || e.at+e.length > len(t.bytes) {
			return nil, errors.New("two changes meet at one place")
		}
		out.Write(t.bytes[done:e.at])
		out.WriteString(e.insert)
		done = e.at + e.length
	}
	out.Write(t.bytes[done:])
	return out.Bytes(), nil
}
