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
			case it.sameConfigMap(winner) && !it.sameObject(winner):
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
			s += " for callers in " + cmp.Or(it.Namespace, "the same namespace")
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
	pods := "all pods"
	if len(pairs) > 0 {
		pods = "pods " + strings.Join(pairs, ",")
	}
	if namespace == "" {
		return pods + " of the namespace"
	}
	return pods + " in namespace " + namespace
}

// contends says whether only one document can set a field: not what selects the subject, nor the rules of Access,
// which add up.
func (doc *Document) contends(field string) bool {
	if doc.Kind == KindAccess {
		return field == "mtls" || field == "ports" || field == "default"
	}
	return field != "service" && field != "workload"
}

func (it Item) sameConfigMap(o Item) bool {
	return it.ConfigMap != "" && it.Namespace == o.Namespace && it.ConfigMap == o.ConfigMap
}

// sameObject says whether both stand in one ConfigMap of one file.
func (it Item) sameObject(o Item) bool {
	return it.sameConfigMap(o) && it.Source.File == o.Source.File && it.Line == o.Line
}

func (it Item) conflict(winner Item, subject, field string) Problem {
	wins := "wins if its ConfigMap is the older one, or as old"
	if it.sameObject(winner) {
		wins = "wins by its name"
	}
	line, column := Locate(it.Source, Path(field))
	return Problem{Code: CodeConflict, Severity: Warning, File: it.Source.File, Line: line, Column: column, Path: Path(field),
		Message: fmt.Sprintf("%s sets it for %s too, and %s", winner.Name(), subject, wins),
		Hint:    "keep one of them"}
}

// sameName tells ConfigMaps that stand in the files more than once: applied to a cluster, the last one is left.
func sameName(items []Item) []Problem {
	var out []Problem
	first := map[string]Item{}
	told := map[string]bool{}
	for _, it := range slices.SortedStableFunc(slices.Values(items), func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Source.File, b.Source.File), cmp.Compare(a.Line, b.Line))
	}) {
		name := it.Namespace + "/" + it.ConfigMap
		before, ok := first[name]
		if !ok {
			first[name] = it
		}
		place := fmt.Sprintf("%s:%d", it.Source.File, it.Line)
		if it.ConfigMap == "" || !ok || it.sameObject(before) || told[place] {
			continue
		}
		told[place] = true
		out = append(out, Problem{Code: CodeSameName, Severity: Warning, File: it.Source.File, Line: it.Line, Column: 1,
			Message: fmt.Sprintf("ConfigMap %s stands at %s:%d too; applied together, the later one replaces the earlier", name, before.Source.File, before.Line),
			Hint:    "give one of them another name"})
	}
	return out
}
