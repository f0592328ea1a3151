package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxText is the size of the largest ConfigMap that Kubernetes takes, and with it of a document.
const maxText = 1 << 20

// read turns text into the one YAML document in it, or nil after telling why it is none.
func (p *problems) read(text string) *yaml.Node {
	if !p.readable(text) {
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var first, second yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		p.addAt(1, 1, Problem{Code: CodeEmpty, Message: "there is no document", Hint: "write one, beginning with its kind"})
		return nil
	case err != nil:
		p.syntax(text, err)
		return nil
	}
	root := first.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		p.addAt(1, 1, Problem{Code: CodeEmpty, Message: "the document is empty", Hint: "write its kind first"})
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return root
	case err != nil:
		p.syntax(text, err)
	default:
		p.addAt(second.Line, second.Column, Problem{Code: CodeSeveral, Message: "a second document begins here", Hint: "give it a data key of its own"})
	}
	return nil
}

// readable refuses what is no text, or text that shows other lines than it has: YAML takes U+2028 and a lone
// carriage return for the end of a line, editors do not.
func (p *problems) readable(text string) bool {
	line, column := 1, 1
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			p.addAt(line, column, Problem{Code: CodeEncoding, Message: fmt.Sprintf("byte 0x%02x is not UTF-8", text[i]), Hint: "save the file as UTF-8"})
			return false
		case r == '\r' && strings.HasPrefix(text[i:], "\r\n"), r == '\t', r == '\uFEFF' && i == 0:
		case r == '\n':
			line, column = line+1, 0
		case isControl(r), r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029', r == '\uFEFF', r == '\uFFFE', r == '\uFFFF':
			p.addAt(line, column, Problem{Code: CodeEncoding, Message: fmt.Sprintf("character %U cannot be shown", r), Hint: "remove it"})
			return false
		}
		column++
	}
	return true
}

// syntax tells why text is not YAML.
func (p *problems) syntax(text string, err error) {
	line, message := syntaxPlace(text, err.Error())
	lines := strings.SplitAfterN(text, "\n", line+2)
	at, indent := lineOf(lines, line)
	if strings.Contains(message, "tab character that violates indentation") { // it is told of the line before, now and then
		if next, n := lineOf(lines, line+1); !strings.Contains(at[:indent], "\t") && strings.Contains(next[:n], "\t") {
			line, at, indent = line+1, next, n
		}
	}
	pr := Problem{Code: CodeSyntax, Message: "not YAML: " + message, Hint: "check indentation, brackets and quotes from here on"}
	switch {
	case strings.Contains(at[:indent], "\t") && (strings.Contains(message, "cannot start any token") || strings.Contains(message, "tab character")):
		indent = strings.IndexByte(at, '\t')
		pr = Problem{Code: CodeTab, Message: "a tab indents this line", Hint: "YAML takes only spaces"}
	case strings.Contains(message, "cannot start any token"):
		pr.Hint = "put values that begin with @, ` or % in quotes"
	case strings.Contains(message, "mapping values are not allowed"):
		pr.Hint = "check the indentation, and put values that contain \": \" in quotes"
	case strings.HasPrefix(message, "unknown anchor"), strings.Contains(message, "alphabetic or numeric character"):
		pr.Hint = "put values that begin with * or & in quotes"
	}
	p.addAt(line, min(indent, len(at))+1, pr)
}

var (
	yamlLine   = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)
	yamlParser = regexp.MustCompile(`^did not find expected (?:key|node content|'-' indicator|',' or|<)`)
)

// lineOf gives a line, counted from 1, and how many bytes of it indent it.
func lineOf(lines []string, n int) (line string, indent int) {
	if n > len(lines) {
		return "", 0
	}
	line = lines[n-1]
	return line, len(line) - len(strings.TrimLeft(line, " \t"))
}

// syntaxPlace takes the line from the text of a YAML error. The library counts the lines of its parser's errors
// from 0 and those of its scanner's from 1, and leaves the first line out.
func syntaxPlace(text, problem string) (int, string) {
	m := yamlLine.FindStringSubmatch(problem)
	message := strings.TrimPrefix(problem, m[0])
	line, _ := strconv.Atoi(m[1])
	if name, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		before, _, _ := strings.Cut(text, "*"+name)
		return strings.Count(before, "\n") + 1, message
	}
	if yamlParser.MatchString(message) || line == 0 {
		line++
	}
	if message == "did not find expected key" || strings.HasPrefix(message, "did not find expected '-'") {
		line = blame(text, message, line)
	}
	return min(line, strings.Count(strings.TrimRight(text, "\n"), "\n")+1), message // not behind the last line
}

// blame finds the line that an error is in, where the library only tells the line in which the block around it
// begins: the shortest beginning of the text that has the same error.
func blame(text, message string, from int) int {
	lines := strings.SplitAfter(text, "\n")
	if len(text) > 1<<16 || from > len(lines) {
		return from
	}
	return from + sort.Search(len(lines)-from, func(i int) bool {
		var n yaml.Node
		err := yaml.Unmarshal([]byte(strings.Join(lines[:from+i], "")), &n)
		return err != nil && strings.HasSuffix(err.Error(), message)
	})
}

// chunk is one document of a file, up to the next line that separates documents.
type chunk struct {
	text string
	line int // that it begins in, from 1
}

// chunks splits a file at the lines that begin with ---, which nothing else in YAML may. So that a mistake in one
// document does not hide those of the next, each is read by itself.
func chunks(data []byte) []chunk {
	var cs []chunk
	start, line, startLine := 0, 1, 1
	for at := 0; at < len(data); line++ {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		if at > start && separates(data[at:end]) {
			cs = append(cs, chunk{string(data[start:at]), startLine})
			start, startLine = at, line
		}
		at = end
	}
	return append(cs, chunk{string(data[start:]), startLine})
}

func separates(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])))
}
