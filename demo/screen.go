package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// scene is all that the screen shows at a moment.
type scene struct {
	now      time.Time
	elapsed  time.Duration
	folder   string
	sidecars int
	rate     int
	live     Report // of the last seconds
	since    Report // since the last edit
	total    Report // since the start
	heard    heard
}

// palette paints text. The zero value leaves it plain.
type palette struct{ bold, dim, red, green, yellow, cyan, reset string }

func colours() palette {
	return palette{"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[0m"}
}

func (p palette) paint(code, text string) string {
	if code == "" {
		return text
	}
	return code + text + p.reset
}

// size is that of a screen.
type size struct{ width, height int }

// render draws a scene: as many lines as the screen has, each at most as wide as it is.
func (s scene) render(p palette, at size) []string {
	c := canvas{palette: p, width: at.width, names: min(max(at.width-6*column, 24), 44, at.width)}
	s.title(&c)
	s.edges(&c)
	s.splits(&c)
	s.protections(&c)
	s.lastEdit(&c)
	s.happenings(&c, at.height)
	return c.lines
}

// column is the width of a column of numbers.
const column = 8

// canvas collects lines.
type canvas struct {
	palette
	width int
	names int // width of the first column
	lines []string
}

func (c *canvas) add(cells ...cell) {
	var b strings.Builder
	left := c.width
	for _, cell := range cells {
		if cell.width < -left {
			break // a number is shown whole or not at all
		}
		text := cell.fitted(left)
		left -= utf8.RuneCountInString(text)
		b.WriteString(c.paint(cell.colour, text))
	}
	c.lines = append(c.lines, strings.TrimRight(b.String(), " "))
}

// cell is a piece of a line: padded to its width, on the left if that is negative; 0 is as wide as the text.
type cell struct {
	text   string
	width  int
	colour string
}

func (c cell) fitted(left int) string {
	text := c.text
	n := utf8.RuneCountInString(text)
	switch {
	case c.width < 0 && n < -c.width:
		text = strings.Repeat(" ", -c.width-n) + text
	case c.width > 0 && n > c.width:
		text = cut(text, c.width)
	case n < c.width:
		text += strings.Repeat(" ", c.width-n)
	}
	return cut(text, left)
}

// cut shortens text to n characters.
func cut(text string, n int) string {
	r := []rune(text)
	switch {
	case len(r) <= n:
		return text
	case n <= 1:
		return string(r[:max(n, 0)])
	}
	return string(r[:n-1]) + "…"
}

func (s scene) title(c *canvas) {
	c.add(cell{"Heddle demo", 0, c.bold}, cell{fmt.Sprintf("  %d sidecars, %d pages/s, up %s", s.sidecars, s.rate,
		s.elapsed.Truncate(time.Second)), max(c.width-11-14, 0), ""}, cell{"Ctrl-C ends it", 0, c.dim})
	c.add(cell{"Edit the files in ", 0, c.dim}, cell{s.folder, 0, c.cyan}, cell{" and watch the traffic follow", 0, c.dim})
	c.add()
}

// arrow writes who calls whom, without the namespace that all of the demo is in.
func arrow(source, destination string) string { return short(source) + " → " + short(destination) }

func short(name string) string { return strings.TrimPrefix(name, "shop/") }

// outsideIn orders edges as a request travels: first those of callers that nobody calls.
func outsideIn(edges []Edge) []Edge {
	var out []Edge
	for left := edges; len(left) > 0; {
		var first, later []Edge
		for _, e := range left {
			if slices.ContainsFunc(left, func(o Edge) bool { return o.Destination == e.Source && o.Source != e.Source }) {
				later = append(later, e)
			} else {
				first = append(first, e)
			}
		}
		if len(first) == 0 { // they call each other in a circle
			return append(out, later...)
		}
		out, left = append(out, first...), later
	}
	return out
}

// number is a cell in a column of numbers.
func number(text, colour string) cell { return cell{text, -column, colour} }

func (s scene) edges(c *canvas) {
	c.add(cell{"WHO CALLS WHOM", c.names, c.bold}, number("requests", c.dim), number("rps", c.dim), number("success", c.dim),
		number("p50 ms", c.dim), number("p95 ms", c.dim), number("p99 ms", c.dim))
	live := map[string]Edge{}
	for _, e := range s.live.Edges {
		live[arrow(e.Source, e.Destination)] = e
	}
	for _, e := range outsideIn(s.total.Edges) {
		name := arrow(e.Source, e.Destination)
		now := live[name]
		c.add(cell{name, c.names, ""}, number(fmt.Sprint(e.Requests), ""), number(fmt.Sprintf("%.1f", now.RPS), ""),
			number(percent(now.Success), c.successColour(now.Success)),
			number(milliseconds(now.P50), ""), number(milliseconds(now.P95), ""), number(milliseconds(now.P99), ""))
	}
	c.add()
}

func (c *canvas) successColour(v *float64) string {
	switch {
	case v == nil:
		return c.dim
	case *v >= 0.999:
		return c.green
	case *v >= 0.95:
		return c.yellow
	}
	return c.red
}

// percent writes a share; without one it writes -, since no traffic is neither success nor failure.
func percent(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**v)
}

func milliseconds(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *v)
}

func (s scene) splits(c *canvas) {
	c.add(cell{"WHERE ROUTES LEAD", c.names, c.bold}, number("wanted", c.dim), number("got", c.dim))
	measured := map[string]Route{}
	for _, r := range s.since.Routes {
		measured[r.Source+r.Service+r.Route] = r
	}
	callers := map[string]int{}
	for _, r := range s.total.Routes {
		callers[r.Service+r.Route]++
	}
	for _, r := range s.total.Routes {
		name := short(r.Service) + "/" + r.Route
		if callers[r.Service+r.Route] > 1 {
			name = short(r.Source) + ": " + name
		}
		now := measured[r.Source+r.Service+r.Route] // nothing right after an edit
		for i, t := range r.Targets {
			if i > 0 {
				name = strings.Repeat(" ", utf8.RuneCountInString(name))
			}
			to := t.Subset
			if to == "" {
				to = short(t.Destination)
			}
			share, bar := "-", ""
			if i < len(now.Targets) {
				t = now.Targets[i]
				share = fmt.Sprintf("%.1f%%", 100*t.Share)
				bar = strings.Repeat("█", int(t.Share*float64(max(c.width-c.names-2*column-2, 0))+0.5))
			}
			c.add(cell{name + " → " + to, c.names, ""}, number(fmt.Sprintf("%.1f%%", 100*t.Wanted), ""),
				number(share, c.bold), cell{"  " + bar, 0, c.green})
		}
	}
	c.add()
}

// protections is what retries, breakers and outlier detection did since the start, one line for each edge.
func (s scene) protections(c *canvas) {
	c.add(cell{"WHAT POLICIES DID", c.names, c.bold}, number("retried", c.dim), number("rescued", c.dim),
		number("breaker", c.dim), number("refused", c.dim), number("ejected", c.dim), number("back", c.dim))
	for _, name := range s.protected() {
		cells := []cell{{name, c.names, ""}}
		cells = append(cells, s.retryCells(c, name)...)
		cells = append(cells, s.breakerCells(c, name)...)
		cells = append(cells, s.ejectionCells(c, name)...)
		c.add(cells...)
	}
	c.add()
}

// protected are the edges that any policy protects, in the order of the edges.
func (s scene) protected() []string {
	has := map[string]bool{}
	for _, r := range s.total.Retries {
		has[arrow(r.Source, r.Destination)] = true
	}
	for _, b := range s.total.Breakers {
		has[arrow(b.Source, b.Destination)] = true
	}
	for _, e := range s.total.Ejections {
		has[arrow(e.Source, e.Destination)] = true
	}
	var names []string
	for _, e := range outsideIn(s.total.Edges) {
		if name := arrow(e.Source, e.Destination); has[name] {
			names = append(names, name)
		}
	}
	return names
}

func (s scene) retryCells(c *canvas, name string) []cell {
	for _, r := range s.total.Retries {
		if arrow(r.Source, r.Destination) == name {
			return []cell{number(fmt.Sprint(r.Retried), ""), number(fmt.Sprint(r.Rescued), c.ifAny(r.Rescued, c.green))}
		}
	}
	return []cell{number("-", c.dim), number("-", c.dim)}
}

func (s scene) breakerCells(c *canvas, name string) []cell {
	for _, b := range s.total.Breakers {
		if arrow(b.Source, b.Destination) != name {
			continue
		}
		bound := "-"
		if b.MaxRequests > 0 {
			bound = fmt.Sprintf("max %d", b.MaxRequests)
		}
		return []cell{number(bound, ""), number(fmt.Sprint(b.Refused), c.ifAny(b.Refused, c.yellow))}
	}
	return []cell{number("-", c.dim), number("-", c.dim)}
}

func (s scene) ejectionCells(c *canvas, name string) []cell {
	for _, e := range s.total.Ejections {
		if arrow(e.Source, e.Destination) == name {
			return []cell{number(fmt.Sprint(e.Ejected), c.ifAny(e.OutNow, c.yellow)), number(fmt.Sprint(e.Returned), "")}
		}
	}
	return []cell{number("-", c.dim), number("-", c.dim)}
}

func (c *canvas) ifAny(n uint64, colour string) string {
	if n == 0 {
		return ""
	}
	return colour
}

// lastEdit stays until the next one: what happens in between must not push it off the screen.
func (s scene) lastEdit(c *canvas) {
	var last []news
	for _, n := range s.heard.news {
		if n.kind == newsPolicy || n.kind == newsWrong {
			if len(last) > 0 && n.at.Sub(last[0].at) > editTime {
				last = nil
			}
			last = append(last, n)
		}
	}
	where := ""
	if len(last) > 0 && !s.heard.changed.Before(last[0].at) {
		where = s.inForce()
	}
	c.add(cell{"LAST EDIT", 0, c.bold}, cell{where, 0, c.dim})
	if len(last) == 0 {
		c.add(cell{"  none yet: change a weight in catalog.yaml, for example", 0, c.dim})
	}
	for i, n := range last {
		if i == 3 {
			break
		}
		c.news(n, 2)
	}
}

// inForce says where the last edit is in force.
func (s scene) inForce() string {
	if s.heard.acked == 0 {
		return "  on its way to the sidecars"
	}
	return fmt.Sprintf("  in force at %d of %d sidecars after %s", s.heard.acked, s.sidecars, s.heard.took.Round(time.Millisecond))
}

// news adds one, in at most so many lines.
func (c *canvas) news(n news, lines int) {
	colour := map[newsKind]string{newsPolicy: c.cyan, newsWrong: c.red, newsMesh: c.yellow}[n.kind]
	const indent = "           "
	for i, part := range wrap(n.text, c.width-len(indent), lines) {
		if i == 0 {
			c.add(cell{"  " + n.at.Format(time.TimeOnly) + " ", 0, c.dim}, cell{part, 0, colour})
		} else {
			c.add(cell{indent, 0, ""}, cell{part, 0, colour})
		}
	}
}

// wrap breaks text between words into at most so many lines; what does not fit is cut.
func wrap(text string, width, lines int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			if len(out)+1 == lines {
				return append(out, cut(line+"…", width))
			}
			out = append(out, line)
			line = word
			continue
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(out, cut(line, width))
}

// happenings fill what is left of the screen, the latest last; the last lines are the verdict.
func (s scene) happenings(c *canvas, height int) {
	c.add(cell{"WHAT HAPPENS", 0, c.bold})
	verdict, colour := s.verdict(c, max(1, min(3, height/8)))
	height -= len(verdict)
	room := height - len(c.lines)
	var recent []news
	for _, n := range s.heard.news {
		if n.kind == newsMesh || n.kind == newsShop {
			recent = append(recent, n)
		}
	}
	for _, n := range recent[max(0, len(recent)-max(room, 0)):] {
		c.news(n, 1)
	}
	for len(c.lines) < height {
		c.add()
	}
	if len(c.lines) > height {
		c.lines = c.lines[:max(height, 0)]
	}
	for _, line := range verdict {
		c.add(cell{line, 0, colour})
	}
}

// verdict is what the last lines say, and in which colour: whether what was measured agrees.
func (s scene) verdict(c *canvas, lines int) ([]string, string) {
	if len(s.since.Disagreements) == 0 {
		return []string{"What is measured agrees with the policies."}, c.green
	}
	d := s.since.Disagreements[0]
	return wrap(fmt.Sprintf("DISAGREES with %s: wanted %s, measured %s", d.Policy, d.Wanted, d.Measured), c.width, lines), c.red
}
