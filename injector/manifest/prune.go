package manifest

import (
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/injector"
)

// prune takes our entry out, and with it what graft put there for it.
func (t *text) prune(holder entry, field string) error {
	metadata, _ := holder.get("metadata")
	bag, _ := metadata.get(field)
	ours, ok := bag.get(injector.InjectKey)
	if !ok {
		return nil
	}
	end, err := t.token(ours.value)
	if err != nil {
		return err
	}
	if bag.len() > 1 {
		return t.remove(ours, end)
	}
	o, err := t.originOf(ours)
	if err != nil {
		return err
	}
	switch {
	case o > inTilde && metadata.len() == 1 && fits(metadata, o-levels):
		if end, err = t.close(bag, end); err != nil {
			return err
		}
		return t.restore(metadata, end, o-levels)
	case o > grown && o <= inTilde && fits(bag, o):
		return t.restore(bag, end, o)
	}
	if end, err = t.close(bag, end); err != nil {
		return err
	}
	if metadata.len() > 1 {
		return t.remove(bag, end)
	}
	if end, err = t.close(metadata, end); err != nil {
		return err
	}
	return t.remove(metadata, end)
}

// fits says whether graft would have written a mapping of that origin this way. Somebody may have changed the blanks.
func fits(e entry, o origin) bool { return e.isFlow() == (o != inNothing) }

// originOf counts the blanks before our value.
func (t *text) originOf(ours entry) (origin, error) {
	colon, err := t.colon(ours.key)
	if err != nil {
		return 0, err
	}
	between := string(t.bytes[colon:t.offset(ours.value)])
	if n := origin(len(between)); strings.Trim(between, " ") == "" && n <= inTilde+levels {
		return n, nil
	}
	return grown, nil
}

// restore gives a key the value of before; end is where the last of what it has now ends.
func (t *text) restore(e entry, end int, o origin) error {
	if o == inNothing {
		colon, err := t.colon(e.key)
		if err != nil {
			return err
		}
		t.edit(colon, end-colon, "")
		return nil
	}
	brace, err := t.brace(e.value)
	if err != nil {
		return err
	}
	if o == inBraces {
		t.edit(brace, end-brace, "")
		return nil
	}
	if end, err = t.close(e, end); err != nil {
		return err
	}
	word := "null"
	if o == inTilde {
		word = "~"
	}
	t.edit(brace-1, end-brace+1, word)
	return nil
}

// close gives the end of a mapping whose last value ends at end.
func (t *text) close(e entry, end int) (int, error) {
	if !e.isFlow() {
		return end, nil
	}
	for at := end; at < len(t.bytes); at++ {
		switch c := t.bytes[at]; {
		case c == '}':
			return at + 1, nil
		case c == '#':
			at = t.lineEnd(at)
		case c != ',' && t.blanks(at) == 0:
			return 0, fmt.Errorf("line %d: no brace ends this mapping", e.value.Line)
		}
	}
	return 0, fmt.Errorf("line %d: no brace ends this mapping", e.value.Line)
}

// remove takes a key and its value, which ends at end, out of a mapping that has others.
func (t *text) remove(e entry, end int) error {
	start := t.offset(e.key)
	if e.flow {
		return t.removeInFlow(e, start, end)
	}
	line := t.lineStart(start)
	if line == 0 || strings.Trim(string(t.bytes[line:start]), " ") != "" {
		return fmt.Errorf("line %d: %s shares its line with others; remove it by hand", e.key.Line, e.key.Value)
	}
	line -= len(t.newlineBefore(line))
	t.edit(line, t.lineEnd(end)-line, "")
	return nil
}

// newlineBefore is the line break that ends at an offset.
func (t *text) newlineBefore(at int) string {
	for _, s := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if strings.HasSuffix(string(t.bytes[max(0, at-3):at]), s) {
			return s
		}
	}
	return ""
}

func (t *text) removeInFlow(e entry, start, end int) error {
	before := start
	for before > 0 && strings.IndexByte(" \t\r\n", t.bytes[before-1]) >= 0 {
		before--
	}
	after := end + t.blanks(end)
	switch {
	case after < len(t.bytes) && t.bytes[after] == ',':
		after++
		if before == start && strings.HasPrefix(string(t.from(after)), " ") {
			after++ // insert put it there
		}
		t.edit(before, after-before, "")
	case before > 0 && t.bytes[before-1] == ',':
		t.edit(before-1, end-before+1, "")
	default:
		return fmt.Errorf("line %d: %s stands between comments; remove it by hand", e.key.Line, e.key.Value)
	}
	return nil
}
