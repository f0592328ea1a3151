package mesh

import (
	"cmp"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// maxSubsets bounds the subsets of a Service: each is a cluster in every sidecar, whoever's route names it.
const maxSubsets = 64

// mention is a subset of a Service that a route names.
type mention struct {
	subset  model.Labels
	text    string // of the subset
	by      ref
	created time.Time
}

func (m mention) equal(o mention) bool {
	return m.text == o.text && m.by == o.by && m.created.Equal(o.created)
}

// subsets of a Service that routes name.
type subsets struct {
	kept []model.Labels // sorted by String
	over set[string]    // those beyond the bound
}

// setTargets notes which Services the routes of a Service name, and marks those whose subsets may differ by it.
func (s *State) setTargets(key model.Key, now map[model.Key][]mention) {
	before := s.targets[key]
	for target, all := range now {
		now[target] = onlySubsets(all)
	}
	for target := range both(before, now) {
		if _, ok := now[target]; ok {
			s.referrers.add(target, key)
		} else {
			s.referrers.remove(target, key)
		}
		if !slices.EqualFunc(before[target], now[target], mention.equal) {
			s.dirty.subsets.add(target)
		}
	}
	if s.targets[key] = now; len(now) == 0 {
		delete(s.targets, key)
	}
}

// onlySubsets leaves out what names all pods, and what a document says twice.
func onlySubsets(all []mention) []mention {
	type said struct {
		by   ref
		text string
	}
	seen := set[said]{}
	return slices.DeleteFunc(all, func(m mention) bool {
		known := said{m.by, m.text}
		if len(m.subset) == 0 || seen.has(known) {
			return true
		}
		seen.add(known)
		return false
	})
}

// updateSubsets decides anew which subsets of a Service there are, and marks what differs by it.
func (s *State) updateSubsets(key model.Key) {
	before, now := s.subsets[key], s.subsetsNamed(key)
	if s.subsets[key] = now; len(now.kept) == 0 {
		delete(s.subsets, key)
	}
	if !slices.EqualFunc(before.kept, now.kept, slices.Equal) {
		s.dirty.endpoints.add(key)
		s.dirty.outbounds.add(key)
	}
	for text := range both(before.over, now.over) {
		if before.over.has(text) != now.over.has(text) {
			s.dirty.bounded.addAll(s.referrers[key])
			return
		}
	}
}

// subsetsNamed keeps the first subsets: those that the Service's own namespace names, then by the precedence of documents,
// then as written.
func (s *State) subsetsNamed(key model.Key) subsets {
	var all []mention
	for referrer := range s.referrers[key] {
		all = append(all, s.targets[referrer][key]...)
	}
	foreign := func(m mention) int {
		if m.by.configMap.Namespace == key.Namespace {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b mention) int {
		return cmp.Or(cmp.Compare(foreign(a), foreign(b)), a.created.Compare(b.created), a.by.compare(b.by))
	})
	var now subsets
	seen := set[string]{}
	for _, m := range all {
		switch {
		case seen.has(m.text):
		case len(now.kept) < maxSubsets:
			now.kept = append(now.kept, m.subset)
		case now.over == nil:
			now.over = set[string]{m.text: {}}
		default:
			now.over.add(m.text)
		}
		seen.add(m.text)
	}
	slices.SortFunc(now.kept, func(a, b model.Labels) int { return cmp.Compare(a.String(), b.String()) })
	return now
}
