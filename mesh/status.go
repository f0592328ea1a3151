package mesh

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// PolicyStatus is what a person should know of a policy document.
type PolicyStatus struct {
	ConfigMap model.Key
	Item      string
	Kind      policy.Kind // of the document as it is now, else of the version in force
	Hash      string      // of the document as it is now
	Accepted  bool        // the document as it is now is in force
	Serving   string      // hash of the version in force, empty if there is none
	Problems  []policy.Problem
	Gone      bool // the document is no more
}

// Policies lists the status of all documents, by ConfigMap and item.
func (s *State) Policies() []PolicyStatus {
	list := make([]PolicyStatus, 0, len(s.documents))
	for _, r := range slices.SortedFunc(maps.Keys(s.documents), ref.compare) {
		list = append(list, s.documents[r].status)
	}
	return list
}

// report tells of the documents whose status changed, and what has to be saved now.
func (s *State) report(ch *Changes) {
	for _, r := range slices.SortedFunc(maps.Keys(s.dirty.documents), ref.compare) {
		d := s.documents[r]
		if d == nil {
			ch.Policies = append(ch.Policies, PolicyStatus{ConfigMap: r.configMap, Item: r.item, Gone: true})
			s.save(r, d, ch)
			continue
		}
		s.tellAccess(d)
		if now := d.statusNow(); !reflect.DeepEqual(d.status, now) {
			d.status = now
			ch.Policies = append(ch.Policies, now)
		}
		s.save(r, d, ch)
	}
}

func (d *document) statusNow() PolicyStatus {
	now := PolicyStatus{
		ConfigMap: d.ref.configMap, Item: d.ref.item, Kind: d.kind,
		Hash: d.hash, Accepted: d.accepted(), Problems: slices.Clone(d.problems),
	}
	if len(d.good) > 0 {
		now.Serving = d.good[0].hash
		now.Kind = cmp.Or(now.Kind, d.good[0].doc.Kind)
	}
	switch {
	case now.Accepted: // what was found out about an older version would point at the wrong lines
		now.Problems = append(now.Problems, d.joined...)
		slices.SortStableFunc(now.Problems, func(a, b policy.Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
	case slices.Contains(d.refused, d.hash):
		now.Problems = append(now.Problems, d.refusedProblem())
	}
	if d.denying != nil {
		now.Problems = append(now.Problems, *d.denying)
	}
	return now
}

// save reports what has to be kept of a document if that is not what is kept.
func (s *State) save(r ref, d *document, ch *Changes) {
	kept := s.kept[r]
	now := model.SavedPolicy{ConfigMap: r.configMap, UID: kept.UID, Item: r.item}
	if d != nil {
		now = s.toSave(d)
	}
	if now.Empty() && kept.Empty() || reflect.DeepEqual(kept, now) {
		return
	}
	ch.Save = append(ch.Save, now)
	if now.Empty() {
		delete(s.kept, r)
	} else {
		s.kept[r] = now
	}
}
