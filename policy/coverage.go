package policy

import (
	"reflect"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Coverage is what an Access document speaks of: pods with labels, a Service of its namespace, or all if both are empty.
type Coverage struct {
	Workload Labels
	Service  string
}

// Covered tells what a text speaks of that cannot be had as a document, if one can see that it was to be an Access
// document: authorization must not become weaker because of a mistake. What cannot be read of it counts as the widest
// it could be. Audit without mtls refuses nothing and so covers nothing.
func Covered(text string) (Coverage, bool) {
	p := newProblems(Source{Text: text})
	root := p.read(text)
	if root == nil {
		return Coverage{}, looksLikeAccess(text)
	}
	if root.Kind != yaml.MappingNode || !isAccess(root) {
		return Coverage{}, false
	}
	mode, service, workload := meantValues(root, "mode"), meantValues(root, "service"), meantValues(root, "workload")
	if len(mode) == 1 && mode[0].Value == string(ModeAudit) && len(meantValues(root, "mtls"))+len(meantValues(root, "ports")) == 0 {
		return Coverage{}, false
	}
	switch {
	case len(service) == 1 && len(workload) == 0 && service[0].Kind == yaml.ScalarNode && isLabel(service[0].Value):
		return Coverage{Service: service[0].Value}, true
	case len(service) == 0 && len(workload) == 1:
		if labels, ok := readLabels(workload[0]); ok {
			return Coverage{Workload: labels}, true
		}
	}
	return Coverage{}, true
}

// readLabels reads a mapping of labels, false if there is anything else in it.
func readLabels(n *yaml.Node) (Labels, bool) {
	labels := Labels{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i+1].Kind != yaml.ScalarNode {
			return nil, false
		}
		labels[n.Content[i].Value] = n.Content[i+1].Value
	}
	p := newProblems(Source{})
	labels.validate("", p)
	return labels, n.Kind == yaml.MappingNode && len(labels) == len(n.Content)/2 && len(labels) > 0 && len(p.list) == 0
}

// isAccess says that a mapping is an Access document by its kind, perhaps misspelt; without one, by keys that no other
// kind has.
func isAccess(root *yaml.Node) bool {
	written := meantValues(root, "kind")
	if len(written) == 0 {
		return child(root, "rules") != nil || child(root, "mtls") != nil
	}
	return slices.ContainsFunc(written, func(n *yaml.Node) bool { return isNearAccess(n.Value) })
}

func isNearAccess(kind string) bool { return nearest(kind, kinds()) == string(KindAccess) }

// kindLine finds the kind in what is not YAML, be it in a mapping of lines or in braces.
var kindLine = regexp.MustCompile(`(?m)(?:^|[{,])[ \t]*["']?kind["']?[ \t]*:[ \t]*["']?([A-Za-z]+)`)

func looksLikeAccess(text string) bool {
	for _, m := range kindLine.FindAllStringSubmatch(text, -1) {
		if isNearAccess(m[1]) {
			return true
		}
	}
	return false
}

// meantValues gives the values of a key and of unknown keys that are misspellings of it.
func meantValues(n *yaml.Node, name string) []*yaml.Node {
	known := []string{"kind"}
	for _, f := range fieldsOf(reflect.TypeFor[Access]()) {
		known = append(known, f.name)
	}
	var values []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if nearest(n.Content[i].Value, known) == name {
			values = append(values, n.Content[i+1])
		}
	}
	return values
}
