package kube

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// find follows a path such as .spec.ports[1].port from a node as far as it goes, and gives where its last step
// stands: the key, and the value. For an entry of a list both are the entry.
func find(n *yaml.Node, path string) (key, value *yaml.Node) {
	key, value = n, n
	for _, step := range steps(path) {
		k, v := child(value, step)
		if v == nil {
			break
		}
		key, value = k, v
	}
	return key, value
}

// steps cuts a path at its dots and brackets.
func steps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// child looks a key up in a mapping, or an index in a list.
func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	switch n.Kind {
	case yaml.AliasNode:
		return child(n.Alias, step)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}

// pathAt gives the path of the value that is being read at an offset of a JSON text.
func pathAt(data []byte, offset int64) string {
	type level struct {
		list  bool
		index int
		key   string
		value bool // the next token of an object is a value
	}
	var stack []level
	dec := json.NewDecoder(bytes.NewReader(data))
	for dec.InputOffset() < offset {
		token, err := dec.Token()
		if err != nil {
			break
		}
		if d, ok := token.(json.Delim); ok && (d == '}' || d == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if len(stack) > 0 {
			switch top := &stack[len(stack)-1]; {
			case top.list:
				top.index++
			case !top.value:
				top.key, top.value = token.(string), true
				continue
			default:
				top.value = false
			}
		}
		if d, ok := token.(json.Delim); ok {
			stack = append(stack, level{list: d == '[', index: -1})
		}
	}
	var path strings.Builder
	for _, l := range stack {
		if l.list {
			path.WriteString("[" + strconv.Itoa(max(l.index, 0)) + "]")
		} else if l.key != "" {
			path.WriteString("." + l.key)
		}
	}
	return path.String()
}
