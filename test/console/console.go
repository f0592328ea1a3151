// Package console reads what a document tells people to type, and what it says they will see, so that a test can do just
// that:
//
//	```console
//	$ kubectl get nodes
//	NAME     STATUS   ROLES    AGE   VERSION
//	…        Ready    …
//	```
//
// A line that begins with "$ " is a command; a backslash at its end continues it. The lines after it, to the next command
// or the end of the block, are its output; none means that nobody cares what it prints. In them … stands for any text
// within a line, and a line of … alone for any number of lines. Runs of spaces are equal, since columns are as wide as what
// is in them.
package console

import (
	"fmt"
	"regexp"
	"strings"
)

// Step is a command with its output.
type Step struct {
	Line    int    // of the command in the document, from 1
	Command string // for a shell
	Output  []string
}

// Steps are those of a document in Markdown, in its order.
func Steps(document string) ([]Step, error) {
	var steps []Step
	inside, continued := false, false
	for i, line := range strings.Split(document, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			if continued {
				return nil, fmt.Errorf("line %d: the block ends within a command", i+1)
			}
			inside = line == "```console"
			if inside {
				steps = append(steps, Step{}) // so that output before the first command is found
			}
		case !inside:
		case continued:
			last := &steps[len(steps)-1]
			last.Command = strings.TrimSuffix(last.Command, `\`) + strings.TrimLeft(line, " ")
			continued = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, Step{Line: i + 1, Command: strings.TrimPrefix(line, "$ ")})
			continued = strings.HasSuffix(line, `\`)
		case steps[len(steps)-1].Command == "":
			return nil, fmt.Errorf("line %d: output without a command, which begins with a dollar sign and a space", i+1)
		default:
			last := &steps[len(steps)-1]
			last.Output = append(last.Output, line)
		}
	}
	return commands(steps), nil
}

func commands(steps []Step) []Step {
	var out []Step
	for _, s := range steps {
		if s.Command != "" {
			out = append(out, s)
		}
	}
	return out
}

// Printed says what is wrong with what the command printed; nil: it is as the document says.
func (s Step) Printed(output string) error {
	if len(s.Output) == 0 {
		return nil
	}
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for _, line := range s.Output {
		if strings.TrimSpace(line) == "…" {
			pattern.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				pattern.WriteString(`[^\n]*`)
			}
			pattern.WriteString(spaces().ReplaceAllString(regexp.QuoteMeta(part), `[ \t]+`))
		}
		pattern.WriteString(`[ \t]*\n`)
	}
	pattern.WriteString(`\z`)
	matches, err := regexp.MatchString(pattern.String(), strings.TrimRight(output, "\n")+"\n")
	switch {
	case err != nil:
		return fmt.Errorf("line %d: %s: read what it should print: %w", s.Line, s.Command, err)
	case !matches:
		return fmt.Errorf("line %d: %s\nprinted\n%s\nand not\n%s", s.Line, s.Command, output, strings.Join(s.Output, "\n"))
	}
	return nil
}

func spaces() *regexp.Regexp { return regexp.MustCompile(`[ \t]+`) }
