package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/heddle-mesh/heddle/injector"
)

// origin says how the text was before our entry came into it, as far as the text itself does not show it. It is written
// as the number of blanks between the entry's colon and its value.
type origin int

const (
	grown origin = iota + 1 // the keys that lead to it were put into a mapping that had others, or there was nothing to put
	inBraces
	inNothing // after a key without a value
	inNull
	inTilde
	levels = inTilde - grown // what is deeper by one key is greater by that
)

// entry is a key with its value in a mapping.
type entry struct {
	key, value *yaml.Node // key is nil for a document and for an item of a list
	flow       bool       // it stands in a flow mapping
}

// get looks for a key. The parser complains of keys that stand twice.
func (e entry) get(name string) (entry, bool) {
	if e.value == nil || e.value.Kind != yaml.MappingNode {
		return entry{}, false
	}
	for i := 0; i+1 < len(e.value.Content); i += 2 {
		if key := e.value.Content[i]; key.Kind == yaml.ScalarNode && key.Value == name {
			return entry{key, e.value.Content[i+1], e.isFlow()}, true
		}
	}
	return entry{}, false
}

// isFlow says whether what stands in it is written in braces.
func (e entry) isFlow() bool { return e.flow || e.value.Style&yaml.FlowStyle != 0 }

func (e entry) len() int { return len(e.value.Content) / 2 }

func (e entry) isNull() bool { return e.value.Kind == yaml.ScalarNode && e.value.Tag == "!!null" }

// graft puts our entry under the keys metadata and field of holder.
func (t *text) graft(holder entry, field string) error {
	at := holder
	keys := []string{"metadata", field, injector.InjectKey}
	for depth := range keys {
		missing := keys[depth:]
		add := levels * origin(len(missing)-1) // the holder is never empty, so this is for metadata
		switch {
		case at.isNull():
			return t.fillNull(at, missing, add)
		case at.value.Kind == yaml.AliasNode:
			return fmt.Errorf("line %d: *%s stands for what would have to change here; write it out", at.value.Line, at.value.Value)
		case at.value.Kind != yaml.MappingNode:
			return fmt.Errorf("line %d: %s is no mapping", at.value.Line, at.key.Value)
		case at.len() == 0:
			brace, err := t.brace(at.value)
			if err != nil {
				return err
			}
			t.edit(brace, 0, inFlow(missing, inBraces+add, quoted(at.key)))
			return nil
		}
		next, ok := at.get(keys[depth])
		if !ok {
			return t.insert(at, missing)
		}
		at = next
	}
	return nil
}

// insert puts keys before the first one of a mapping that has some.
func (t *text) insert(at entry, keys []string) error {
	first := at.value.Content[0]
	if at.isFlow() {
		brace, err := t.brace(at.value)
		if err != nil {
			return err
		}
		if n := t.blanks(brace); n > 0 {
			t.edit(brace, 0, string(t.bytes[brace:brace+n])+inFlow(keys, grown, quoted(first))+",")
		} else {
			t.edit(brace, 0, inFlow(keys, grown, quoted(first))+", ")
		}
		return nil
	}
	if at.key == nil || first.Line <= at.key.Line {
		return fmt.Errorf("line %d: there is no place for %s in this mapping; write it out", at.value.Line, keys[0])
	}
	header := t.offset(at.key)
	t.edit(t.lineEnd(header), 0, t.block(keys, first.Column-1, t.newline(header), grown))
	return nil
}

// fillNull puts keys where nothing is, or a word for it.
func (t *text) fillNull(at entry, keys []string, add origin) error {
	switch at.value.Value {
	case "null":
		t.edit(t.offset(at.value), len("null"), "{"+inFlow(keys, inNull+add, quoted(at.key))+"}")
		return nil
	case "~":
		t.edit(t.offset(at.value), len("~"), "{"+inFlow(keys, inTilde+add, quoted(at.key))+"}")
		return nil
	case "":
		if at.flow {
			break
		}
		colon, err := t.colon(at.key)
		if err != nil {
			return err
		}
		t.edit(colon, 0, t.block(keys, at.key.Column-1+2, t.newline(colon), inNothing+add))
		return nil
	}
	return fmt.Errorf("line %d: %s is empty in an unusual way; write {} or leave it out", at.key.Line, at.key.Value)
}

// block writes keys that lead to our value one below the other, each line with a break before it.
func (t *text) block(keys []string, indent int, newline string, o origin) string {
	var b strings.Builder
	for i, key := range keys {
		b.WriteString(newline + strings.Repeat(" ", indent+2*i) + key + ":")
	}
	return b.String() + strings.Repeat(" ", int(o)) + injector.Enabled
}

// inFlow writes them in braces, each in the quotes that its neighbours have: JSON has them around all.
func inFlow(keys []string, o origin, quote string) string {
	last := len(keys) - 1
	var b strings.Builder
	for _, key := range keys[:last] {
		b.WriteString(quote + key + quote + `: {`)
	}
	b.WriteString(quote + keys[last] + quote + `:` + strings.Repeat(" ", int(o)) + quote + injector.Enabled + quote)
	return b.String() + strings.Repeat("}", last)
}

// quoted gives the quotes that a key nearby has, or none.
func quoted(key *yaml.Node) string {
	if key != nil && key.Style&yaml.DoubleQuotedStyle != 0 {
		return `"`
	}
	return ""
}
