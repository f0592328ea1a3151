package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/policy"
)

// schemaNode is what of the chart's schema names values.
type schemaNode struct {
	Properties map[string]schemaNode `json:"properties"`
}

// schemaError says in words for people what Helm says of values that the chart's schema does not allow: each by its name,
// and the nearest one of those that there are.
func schemaError(err error) error {
	_, reasons, found := strings.Cut(err.Error(), "chart(s):\nheddle:\n")
	if !found {
		return err
	}
	var root schemaNode
	text, readErr := read("values.schema.json")
	if readErr == nil {
		readErr = json.Unmarshal(text, &root)
	}
	if readErr != nil {
		return errors.Join(err, fmt.Errorf("read the chart's schema: %w", readErr))
	}
	place, unknown := regexp.MustCompile(`^\s*- at '([^']*)': (.*)$`), regexp.MustCompile(`^additional propert(?:y|ies) (.*) not allowed$`)
	var all []string
	for line := range strings.SplitSeq(strings.TrimSpace(reasons), "\n") {
		m := place.FindStringSubmatch(line)
		switch {
		case m == nil:
			all = append(all, strings.TrimSpace(line))
		case m[2] == "validation failed": // the reasons are the lines after it
		case unknown.MatchString(m[2]):
			for name := range strings.SplitSeq(unknown.FindStringSubmatch(m[2])[1], ", ") {
				all = append(all, root.unknown(parts(m[1]), strings.Trim(name, "'")))
			}
		default:
			all = append(all, strings.TrimPrefix(strings.Join(parts(m[1]), ".")+": "+m[2], ": "))
		}
	}
	slices.Sort(all) // Helm gives them in no order
	return errors.New(strings.Join(all, "; ") + "; docs/install.md lists all values")
}

// parts takes a JSON pointer to pieces.
func parts(pointer string) []string {
	return strings.FieldsFunc(pointer, func(r rune) bool { return r == '/' })
}

// unknown says that there is no value of a name, and which may have been meant: one beside it, or one of that name elsewhere.
func (n schemaNode) unknown(path []string, name string) string {
	said := "there is no value " + strings.Join(append(slices.Clone(path), name), ".")
	at := n
	for _, p := range path {
		at = at.Properties[p]
	}
	prefix := strings.TrimPrefix(strings.Join(path, ".")+".", ".")
	if near := policy.Nearest(name, slices.Sorted(maps.Keys(at.Properties))); near != "" {
		return said + "; did you mean " + prefix + near + "?"
	}
	if elsewhere := n.named(name, ""); len(elsewhere) > 0 {
		return said + "; did you mean " + strings.Join(elsewhere, " or ") + "?"
	}
	return said
}

// named lists the values with that last name.
func (n schemaNode) named(name, prefix string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(n.Properties)) {
		if key == name {
			all = append(all, prefix+key)
		}
		all = append(all, n.Properties[key].named(name, prefix+key+".")...)
	}
	return all
}
