package kubetest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

// report reads what `go build -v` says, a line for each package that it compiles, and tells how far it is: by one
// live line on a terminal, by a line from time to time elsewhere.
type report struct {
	out      io.Writer
	name     string
	total    int
	live     bool
	done     int
	last     time.Time
	unended  string
	messages []string // lines that name no package: errors
}

func newReport(out io.Writer, name string, total int) *report {
	f, ok := out.(*os.File)
	r := &report{out: out, name: name, total: total, live: ok && term.IsTerminal(int(f.Fd()))}
	fmt.Fprintf(out, "building %s (once, takes minutes)\n", name)
	r.last = time.Now()
	return r
}

// Write takes in the go tool's output.
func (r *report) Write(p []byte) (int, error) {
	r.unended += string(p)
	for {
		line, rest, whole := strings.Cut(r.unended, "\n")
		if !whole {
			return len(p), nil
		}
		r.unended = rest
		r.line(line)
	}
}

func (r *report) line(line string) {
	if strings.ContainsAny(line, " \t#") {
		r.messages = append(r.messages, line)
		r.messages = r.messages[max(0, len(r.messages)-20):]
		return
	}
	r.done++
	now := time.Now()
	switch {
	case r.live && now.Sub(r.last) > 100*time.Millisecond:
		fmt.Fprintf(r.out, "\r\x1b[K%s: compiled %d packages of at most %d", r.name, r.done, r.total)
	case !r.live && now.Sub(r.last) > 30*time.Second:
		fmt.Fprintf(r.out, "%s: compiled %d packages of at most %d\n", r.name, r.done, r.total)
	default:
		return
	}
	r.last = now
}

// close takes the live line away.
func (r *report) close() {
	if r.live {
		fmt.Fprint(r.out, "\r\x1b[K")
	}
}

// tail is what the go tool said last, apart from packages.
func (r *report) tail() string {
	return strings.Join(slices.Concat(r.messages, []string{r.unended}), "\n")
}
