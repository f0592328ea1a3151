package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Together tells what documents do to each other, as far as that shows without a cluster: two that set the same
// field of the same thing, and two ConfigMaps of one name.
func Together(items []Item) []Problem {
	items = slices.SortedFunc(slices.Values(items), func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ConfigMap, b.ConfigMap), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Source.File, b.Source.File), cmp.Compare(a.Source.Line, b.Source.Line))
	})
	out := sameName(items)
	first := map[string]Item{}
	for _, it := range items {
		if it.Document == nil {
			continue
		}
		subject := it.subject()
		for _, f := range slices.Sorted(maps.Keys(it.Document.Fields)) {
			if !it.Document.contends(f) {
				continue
			}
			winner, taken := first[subject+" "+f]
			switch {
			case !taken:
				first[subject+" "+f] = it
			case it.sameConfigMap(winner) && it.Source.File != winner.Source.File:
				// Of those two only one will be there, as sameName says.
			default:
				out = append(out, it.conflict(winner, subject, f))
			}
		}
	}
	slices.SortStableFunc(out, byPlace)
	return out
}

// subject names what a document speaks of, so that two with the same subject and field conflict.
func (it Item) subject() string {
	switch d := it.Document; d.Kind {
	case KindTraffic:
		owner := cmp.Or(d.Traffic.Service.Namespace, it.Namespace)
		s := "Service " + ServiceRef{owner, d.Traffic.Service.Name}.String()
		if owner != it.Namespace {
			s += " for callers in " + it.Namespace
		}
		return s
	case KindAccess:
		if d.Access.Service != "" {
			return "access to Service " + ServiceRef{it.Namespace, d.Access.Service}.String()
		}
		return "access to " + workload(d.Access.Workload, it.Namespace)
	case KindScope:
		return "scope of " + workload(d.Scope.Workload, it.Namespace)
	case KindTelemetry:
		return "telemetry of " + workload(d.Telemetry.Workload, it.Namespace)
	}
	return "the mesh"
}

func workload(ls Labels, namespace string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(ls)) {
		pairs = append(pairs, k+"="+ls[k])
	}
	return strings.TrimSpace("pods " + strings.Join(pairs, ",") + " in namespace " + cmp.Or(namespace, "(none given)"))
}

// contends says whether only one document can set a field: not what selects the subject, nor the rules of Access,
// which add up.
func (d *Document) contends(field string) bool {
	if d.Kind == KindAccess {
		return field == "mtls" || field == "ports"
	}
	return field != "service" && field != "workload"
}

func (it Item) sameConfigMap(o Item) bool {
	return it.ConfigMap != "" && it.Namespace == o.Namespace && it.ConfigMap == o.ConfigMap
}

func (it Item) conflict(winner Item, subject, field string) Problem {
	wins := fmt.Sprintf("that of the ConfigMap made first wins, then by name: %s", winner.Name())
	if it.sameConfigMap(winner) {
		wins = fmt.Sprintf("%s wins, by name", winner.Name())
	}
	line, column := it.Source.place(fieldPlace(it.Source.Text, field))
	return Problem{Code: CodeConflict, Severity: Warning, File: it.Source.File, Line: line, Column: column, Path: Path(field),
		Message: fmt.Sprintf("%s sets %s of %s too; %s", winner.Name(), field, subject, wins),
		Hint:    "keep one of them"}
}

// fieldPlace finds a top-level key in the text of a valid document.
func fieldPlace(text, field string) (line, column int) {
	p := &problems{}
	if root := p.read(text); root != nil {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if k := root.Content[i]; k.Value == field {
				return k.Line, k.Column
			}
		}
	}
	return 1, 1
}

// sameName tells ConfigMaps that stand in the files more than once: applied to a cluster, the last one is left.
func sameName(sorted []Item) []Problem {
	var out []Problem
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if b.ConfigMap == "" || a.Namespace != b.Namespace || a.ConfigMap != b.ConfigMap {
			continue
		}
		if a.Source.File != b.Source.File || a.Key == b.Key {
			line, column := b.Source.place(1, 1)
			out = append(out, Problem{Code: CodeSameName, Severity: Warning, File: b.Source.File, Line: line, Column: column,
				Message: fmt.Sprintf("ConfigMap %s/%s stands in %s too; applied to a cluster, one replaces the other", b.Namespace, b.ConfigMap, a.Source.File),
				Hint:    "give one of them another name"})
		}
	}
	return out
}
