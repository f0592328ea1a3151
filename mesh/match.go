package mesh

import (
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

func matches(written []policy.Match) []model.Match {
	var all []model.Match
	for _, p := range written {
		m := model.Match{Headers: valueMatches(p.Headers), Query: valueMatches(p.Query), Methods: words(p.Methods)}
		if p.Path != nil {
			m.Path = &model.PathMatch{Exact: p.Path.Exact, Prefix: p.Path.Prefix, Regex: string(p.Path.Regex)}
		}
		if p.Method != "" {
			m.Methods = []string{string(p.Method)}
		}
		for _, c := range p.From {
			m.From = append(m.From, model.Caller{
				Namespace: c.Namespace, Account: c.ServiceAccount, Labels: model.LabelsOf(c.Labels),
			})
		}
		all = append(all, m)
	}
	return all
}

func valueMatches[K ~string](written map[K]policy.ValueMatch) []model.ValueMatch {
	var all []model.ValueMatch
	for _, name := range slices.Sorted(maps.Keys(written)) {
		p := written[name]
		m := model.ValueMatch{Name: string(name)}
		switch {
		case p.Exact != nil:
			m.Kind, m.Value = model.ValueExact, *p.Exact
		case p.Prefix != "":
			m.Kind, m.Value = model.ValuePrefix, p.Prefix
		case p.Regex != "":
			m.Kind, m.Value = model.ValueRegex, string(p.Regex)
		case p.Present:
			m.Kind = model.ValuePresent
		case p.Absent:
			m.Kind = model.ValueAbsent
		}
		all = append(all, m)
	}
	return all
}
