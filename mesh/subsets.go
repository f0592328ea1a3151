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

// subsetsNamed keeps the first subsets: those that the Service's own namespace names, then one of each other namespace in
// turn, so that none can take what is left from the others.
func (s *State) subsetsNamed(key model.Key) subsets {
	var now subsets
	seen := set[string]{}
	keep := func(m mention) {
		now.kept = append(now.kept, m.subset)
		seen.add(m.text)
	}
	own, others := s.mentions(key)
	for _, m := range own {
		if !seen.has(m.text) && len(now.kept) < maxSubsets {
			keep(m)
		}
	}
	waiting := slices.Clone(others)
	for len(waiting) > 0 && len(now.kept) < maxSubsets {
		for i, queue := range waiting {
			next := slices.IndexFunc(queue, func(m mention) bool { return !seen.has(m.text) })
			if next < 0 || len(now.kept) == maxSubsets {
				waiting[i] = nil
				continue
			}
			keep(queue[next])
			waiting[i] = queue[next+1:]
		}
		waiting = slices.DeleteFunc(waiting, func(queue []mention) bool { return len(queue) == 0 })
	}
	for _, m := range slices.Concat(append(others, own)...) {
		if seen.has(m.text) {
			continue
		}
		if now.over == nil {
			now.over = set[string]{}
		}
		now.over.add(m.text)
	}
	slices.SortFunc(now.kept, func(a, b model.Labels) int { return cmp.Compare(a.String(), b.String()) })
	return now
}

// mentions gives the subsets of a Service that routes name, by the precedence of documents and then as written: those of its
// own namespace, and those of each other one, in the order of their first.
func (s *State) mentions(key model.Key) (own []mention, others [][]mention) {
	in := map[string][]mention{}
	for referrer := range s.referrers[key] {
		for _, m := range s.targets[referrer][key] {
			in[m.by.configMap.Namespace] = append(in[m.by.configMap.Namespace], m)
		}
	}
	first := func(a, b mention) int { return cmp.Or(a.created.Compare(b.created), a.by.compare(b.by)) }
	for namespace, all := range in {
		slices.SortStableFunc(all, first)
		if namespace == key.Namespace {
			own = all
		} else {
			others = append(others, all)
		}
	}
	slices.SortFunc(others, func(a, b []mention) int { return first(a[0], b[0]) })
	return own, others
}
