package check

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Status is what came out of a check, or of all of them.
type Status string

// From good to bad. Skipped is not judged: what it needs is missing, and the reason says what.
const (
	Passed  Status = "success"
	Skipped Status = "skipped"
	Warned  Status = "warning" // it works now, and will not for long, or not as it should
	Failed  Status = "error"
)

// Mark is the sign that people read.
func (s Status) Mark() string {
	switch s {
	case Passed:
		return "√"
	case Warned:
		return "‼"
	case Failed:
		return "×"
	}
	return "-"
}

// Result is one check's.
type Result struct {
	Name        string `json:"name"` // stable
	Description string `json:"description"`
	Status      Status `json:"result"`
	Reason      string `json:"reason,omitempty"`
	Hint        string `json:"hint,omitempty"` // what to do next
	// Behind names the check whose failure made this one pointless.
	Behind string `json:"behind,omitempty"`
}

// Section is what belongs together.
type Section struct {
	Name   string   `json:"name"`
	Checks []Result `json:"checks"`
}

// Report is everything.
type Report struct {
	Success  bool      `json:"success"` // nothing failed; there may be warnings
	Status   Status    `json:"result"`  // the worst of all
	Now      time.Time `json:"now"`
	At       time.Time `json:"at"` // the time that certificates were judged for
	Sections []Section `json:"sections"`
}

// Failures are the checks that failed.
func (r Report) Failures() []Result {
	var failed []Result
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			if c.Status == Failed {
				failed = append(failed, c)
			}
		}
	}
	return failed
}

// Paint gives a mark its colour. Plain does not.
type Paint func(Status, string) string

// Plain leaves a text as it is.
func Plain(_ Status, text string) string { return text }

// Coloured is for terminals (ECMA-48 SGR).
func Coloured(s Status, text string) string {
	code := map[Status]string{Passed: "32", Warned: "33", Failed: "31"}[s]
	if code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Write prints a report for people: a title and a line under it for each section, a mark for each check, and below what did
// not pass its reason and what to do. Sections of which nothing could be judged are left out.
func (r Report) Write(out io.Writer, paint Paint) error {
	var b strings.Builder
	for _, s := range r.Sections {
		text := s.text(paint)
		if text == "" {
			continue
		}
		fmt.Fprintf(&b, "%s\n%s\n%s\n", s.Name, strings.Repeat("-", len(s.Name)), text)
	}
	if !r.At.Equal(r.Now) {
		fmt.Fprintf(&b, "Certificates are judged for %s\n", r.At.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "Status check results are %s\n", paint(r.Status, r.Status.Mark()))
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the results: %w", err)
	}
	return nil
}

func (s Section) text(paint Paint) string {
	var b strings.Builder
	for _, c := range s.Checks {
		if c.Behind != "" {
			continue
		}
		fmt.Fprintf(&b, "%s %s", paint(c.Status, c.Status.Mark()), c.Description)
		if c.Status == Skipped {
			fmt.Fprintf(&b, " (skipped: %s)\n", c.Reason)
			continue
		}
		b.WriteByte('\n')
		if c.Reason != "" {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(strings.TrimSpace(c.Reason), "\n", "\n    "))
		}
		if c.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s (check %s)\n", c.Hint, c.Name)
		}
	}
	return b.String()
}
