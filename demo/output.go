package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// newOutput chooses how to show what happens.
func newOutput(o Options) output {
	if o.Format == JSON {
		return jsonOutput{o.Out}
	}
	f, ok := o.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &lineOutput{out: o.Out}
	}
	p := palette{}
	if os.Getenv("NO_COLOR") == "" { // https://no-color.org
		p = colours()
	}
	return &screenOutput{out: f, palette: p}
}

// jsonOutput writes one report at the end.
type jsonOutput struct{ out io.Writer }

func (jsonOutput) show(scene) error { return nil }

func (j jsonOutput) close(s *scene) error {
	if s == nil {
		return nil
	}
	e := json.NewEncoder(j.out)
	e.SetIndent("", "  ")
	return e.Encode(s.total)
}

// screenOutput draws on a terminal's second screen, so that the first is as it was afterwards.
type screenOutput struct {
	out     *os.File
	palette palette
	open    bool
}

func (o *screenOutput) show(s scene) error {
	width, height, err := term.GetSize(int(o.out.Fd()))
	if err != nil {
		return fmt.Errorf("ask the terminal for its size: %w", err)
	}
	if width <= 0 || height <= 0 { // some terminals do not know
		width, height = 80, 24
	}
	var b strings.Builder
	if !o.open {
		o.open = true
		b.WriteString("\x1b[?1049h\x1b[?25l\x1b[?7l") // second screen, no cursor, nothing wraps
	}
	b.WriteString("\x1b[H")
	for i, line := range s.render(o.palette, size{width, height}) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		// Nothing of the line before; behind a line as wide as the screen it would erase that line's last character.
		b.WriteString("\x1b[K" + line)
	}
	_, err = o.out.WriteString(b.String())
	return err
}

func (o *screenOutput) close(s *scene) error {
	if o.open {
		if _, err := o.out.WriteString("\x1b[?7h\x1b[?25h\x1b[?1049l"); err != nil {
			return err
		}
	}
	return summarize(o.out, s)
}

// lineOutput writes lines: news as they come, and the edges now and then.
type lineOutput struct {
	out     io.Writer
	said    time.Time // time of the last news written
	counted time.Time // when edges were written last
}

const linesEvery = 5 * time.Second

func (o *lineOutput) show(s scene) error {
	var b strings.Builder
	before := o.said
	for _, n := range s.heard.news {
		if n.at.After(before) { // those of one moment came together
			fmt.Fprintf(&b, "%s %s\n", n.at.Format(time.TimeOnly), plain(n.text))
			o.said = n.at
		}
	}
	if s.now.Sub(o.counted) >= linesEvery {
		if !o.counted.IsZero() {
			writeReport(&b, s.now.Format(time.TimeOnly)+" ", s.live)
		}
		o.counted = s.now
	}
	_, err := io.WriteString(o.out, b.String())
	return err
}

func (o *lineOutput) close(s *scene) error { return summarize(o.out, s) }

// summarize writes what was measured from the start to the end.
func summarize(out io.Writer, s *scene) error {
	if s == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "in %.0f s:\n", s.total.Seconds)
	writeReport(&b, "  ", s.total)
	if len(s.total.Disagreements) == 0 {
		b.WriteString("what was measured agrees with the policies\n")
	}
	for _, d := range s.total.Disagreements {
		fmt.Fprintf(&b, "DISAGREES with policy %s: wanted %s, measured %s\n", d.Policy, d.Wanted, d.Measured)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// writeReport writes a report in lines that begin alike.
func writeReport(b *strings.Builder, begin string, r Report) {
	line := func(format string, args ...any) { b.WriteString(begin + plain(fmt.Sprintf(format, args...)) + "\n") }
	for _, e := range r.Edges {
		line("%s: %d requests, %.1f/s, success %s, p50 %s, p95 %s, p99 %s ms", arrow(e.Source, e.Destination), e.Requests, e.RPS,
			percent(e.Success), milliseconds(e.P50), milliseconds(e.P95), milliseconds(e.P99))
	}
	for _, route := range r.Routes {
		for _, t := range route.Targets {
			line("%s, route %s -> %s %s: policy %.1f%%, measured %.1f%%", arrow(route.Source, route.Service), route.Route,
				short(t.Destination), t.Subset, 100*t.Wanted, 100*t.Share)
		}
	}
	for _, t := range r.Retries {
		line("%s: %d retried, %d rescued", arrow(t.Source, t.Destination), t.Retried, t.Rescued)
	}
	for _, t := range r.Breakers {
		line("%s: %d refused by the circuit breaker", arrow(t.Source, t.Destination), t.Refused)
	}
	for _, t := range r.Ejections {
		line("%s: endpoints taken out %d times, back %d times", arrow(t.Source, t.Destination), t.Ejected, t.Returned)
	}
}

// plain writes arrows as everybody's log can show them.
func plain(text string) string { return strings.ReplaceAll(text, "→", "->") }
