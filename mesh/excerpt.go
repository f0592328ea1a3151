package mesh

import (
	"cmp"
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// Excerpt is the part of a mesh that policies in some namespaces have to do with, at one moment. It is immutable: unlike
// the State that it was taken from, it may be asked from any goroutine.
type Excerpt struct {
	options Options
	events  []model.Event
	reasons map[ref]map[string]string // why proxies refused versions
}

// NamespacesOf lists the namespaces that the documents of a ConfigMap speak of, its own first. Documents with errors speak
// of none.
func NamespacesOf(text *model.PolicyText) []string {
	own := text.Key.Namespace
	all := []string{own}
	add := func(s policy.ServiceRef) {
		if n := cmp.Or(s.Namespace, own); !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	for _, d := range text.Documents {
		doc, _ := policy.Parse(policy.Source{Text: d.Text, Namespace: own, System: true})
		if doc == nil || doc.Traffic == nil {
			continue
		}
		add(doc.Traffic.Service)
		for _, r := range doc.Traffic.Routes {
			// What a route leaves out is relative to the Service's namespace, which is in the list already.
			for _, to := range r.To {
				add(to.Service)
			}
			for _, to := range r.Mirror {
				add(to.Service)
			}
		}
	}
	return all
}

// Excerpt takes what is known of some namespaces, and mesh-wide policy. The work is that of reading it off: nothing is
// translated or joined.
func (s *State) Excerpt(namespaces []string) *Excerpt {
	e := &Excerpt{options: s.options, reasons: map[ref]map[string]string{}}
	e.options.Saved = nil
	for key, svc := range s.services {
		if svc.fact != nil && slices.Contains(namespaces, key.Namespace) {
			e.events = append(e.events, model.Event{Service: svc.fact})
		}
	}
	for key, slice := range s.slices {
		if slices.Contains(namespaces, key.Namespace) {
			e.events = append(e.events, model.Event{Slice: slice})
		}
	}
	for _, n := range namespaces {
		for key := range s.podsIn[n] {
			e.events = append(e.events, model.Event{Pod: s.pods[key]})
		}
	}
	e.takePolicies(s, append([]string{s.options.Namespace}, namespaces...))
	return e
}

// takePolicies takes the documents of some namespaces, and what was good of them.
func (e *Excerpt) takePolicies(s *State, namespaces []string) {
	texts := map[model.Key]*model.PolicyText{}
	for _, r := range slices.SortedFunc(maps.Keys(s.documents), ref.compare) {
		if !slices.Contains(namespaces, r.configMap.Namespace) {
			continue
		}
		d := s.documents[r]
		t := texts[r.configMap]
		if t == nil {
			t = &model.PolicyText{Key: r.configMap, UID: d.uid, Created: d.created}
			texts[r.configMap] = t
			e.events = append(e.events, model.Event{Policy: t})
		}
		t.Documents = append(t.Documents, d.source)
		e.options.Saved = append(e.options.Saved, s.toSave(d))
		e.reasons[r] = maps.Clone(d.reasons)
	}
}

// Try tells what would become of the documents of a ConfigMap, in the place of those that it has. Nothing is changed.
func (e *Excerpt) Try(text *model.PolicyText) []PolicyStatus {
	s := New(e.options)
	s.Apply(e.events)
	for r, reasons := range e.reasons {
		if d := s.documents[r]; d != nil {
			maps.Copy(d.reasons, reasons)
		}
	}
	s.Apply([]model.Event{{Policy: text}})
	return slices.DeleteFunc(s.Policies(), func(p PolicyStatus) bool { return p.ConfigMap != text.Key })
}
