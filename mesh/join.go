package mesh

import (
	"fmt"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// join resolves what policies say about one Service, and collects what there is to say to their writers.
type join struct {
	state    *State
	service  *model.Service
	problems map[ref][]policy.Problem
	targets  map[model.Key][]mention // Services that routes name, with the subsets of their pods
}

func newJoin(s *State) *join {
	return &join{state: s, problems: map[ref][]policy.Problem{}, targets: map[model.Key][]mention{}}
}

// tell notes a problem of a document, once.
func (j *join) tell(src source, at policy.Path, code policy.Code, hint, format string, args ...any) {
	if src.document == nil {
		return // built-in values have no writer
	}
	p := src.document.problem(at, code, hint, fmt.Sprintf(format, args...))
	if r := src.document.ref; !slices.Contains(j.problems[r], p) {
		j.problems[r] = append(j.problems[r], p)
	}
}

// deliver hands the problems over to the documents of a level.
func (j *join) deliver(l level) {
	for _, src := range l {
		src.document.joined = j.problems[src.document.ref]
		j.state.dirty.documents.add(src.document.ref)
	}
}

func (j *join) tellNoService(levels map[string]level, format string, key model.Key) {
	for _, l := range levels {
		for _, src := range l {
			j.tell(src, "service", policy.CodeNoService, "correct the name, or create the Service", format, key)
		}
	}
}

// tellConflicts tells the writers of fields that an older document of the same level has written.
func (j *join) tellConflicts(l level) {
	for _, f := range trafficFields() {
		var first *document
		for _, src := range l {
			switch {
			case !f.written(src.written):
			case first == nil:
				first = src.document
			default:
				j.tellConflict(src, src.at.Field(string(f.name)), first.ref.configMap, first.ref.item)
			}
		}
	}
}

func (j *join) tellConflict(loser source, at policy.Path, winner model.Key, item string) {
	j.tell(loser, at, policy.CodeConflict, "remove it from one of the two",
		"has no effect: %s in ConfigMap %s sets it too, and is older or first by name", item, winner)
}

// tellForeign tells a caller's namespace what it has no say in, beyond what its document shows by itself.
func (j *join) tellForeign(l level) {
	for _, src := range l {
		if lb := src.written.LoadBalancer; lb != nil && lb.Locality != "" {
			j.tell(src, src.at.Field("loadBalancer").Field("locality"), policy.CodeForeign,
				"write it in the Service's own namespace",
				"has no effect from namespace %s, since all callers share the list of endpoints", src.document.ref.configMap.Namespace)
		}
	}
}

// origin says where a field comes from. Its hash is of that field alone.
func (s source) origin(name model.Field) model.Origin {
	return s.document.origin(s.at.Field(string(name)))
}

// origin names a part of what is in force.
func (d *document) origin(part policy.Path) model.Origin {
	return model.Origin{
		Kind: "ConfigMap", Key: d.ref.configMap, Item: d.ref.item, Part: string(part), Hash: d.good[0].parts[part],
	}
}
