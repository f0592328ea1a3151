package mesh

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// history is how many good versions of a document are kept: proxies refuse one only after it was sent, when newer
// ones may have arrived, and there must be one left to go back to.
const history = 3

// refusals is how many refused versions of a document are remembered.
const refusals = 10

// ref names a policy document: a ConfigMap and the key in its data.
type ref struct {
	configMap model.Key
	item      string
}

func (r ref) compare(o ref) int {
	return cmp.Or(r.configMap.Compare(o.configMap), cmp.Compare(r.item, o.item))
}

// document is a policy document: its text as it is now, and its versions that were good.
type document struct {
	ref     ref
	uid     string // of the ConfigMap
	created time.Time

	source   model.PolicyDocument // as it is now
	kind     policy.Kind          // empty while its text is not good
	hash     string               // of its content, or of its text while that is not good
	problems []policy.Problem     // of its text alone
	layout   *yaml.Node           // of its text, read when a place in it is first asked for

	good    []version         // newest first; the first one is in force
	refused []string          // hashes, newest last
	reasons map[string]string // why proxies refused a hash, as far as was heard since the start

	joined  []policy.Problem // of the version in force beside Services and other documents
	denying *policy.Problem  // what it denies for want of a good version
	status  PolicyStatus     // as last reported
}

// version is a good version of a document.
type version struct {
	hash, text string
	doc        *policy.Document       // as written
	traffic    *policy.Traffic        // of a Traffic document, with built-in values for what was not written
	parts      map[policy.Path]string // hash of each part that has effect by itself
}

func versionOf(text string, doc *policy.Document) version {
	v := version{hash: doc.Hash, text: text, doc: doc, parts: map[policy.Path]string{}}
	for f, hash := range doc.Fields {
		v.parts[policy.Path(f)] = hash
	}
	switch {
	case doc.Traffic != nil:
		filled := policy.WithDefaults(*doc.Traffic)
		v.traffic = &filled
	case doc.Mesh != nil && doc.Mesh.Defaults != nil && doc.Mesh.Defaults.Traffic != nil:
		hashDefaults(v.parts, doc.Mesh.Defaults.Traffic)
	}
	return v
}

// inForce gives what has effect, nil if no version was ever good.
func (d *document) inForce() *policy.Document {
	if len(d.good) == 0 {
		return nil
	}
	return d.good[0].doc
}

// accepted says that the text as it is now is what has effect.
func (d *document) accepted() bool { return len(d.good) > 0 && d.good[0].hash == d.hash }

// compare orders documents by precedence: the older ConfigMap, then the first by name.
func (d *document) compare(o *document) int {
	return cmp.Or(d.created.Compare(o.created), d.ref.compare(o.ref))
}

// takePolicy brings the documents of a ConfigMap up to date. One that was deleted and made again under its name is
// another ConfigMap.
func (s *State) takePolicy(key model.Key, text *model.PolicyText) {
	here := map[string]model.PolicyDocument{}
	if text != nil {
		for _, d := range text.Documents {
			here[d.Item] = d
		}
	}
	for _, item := range slices.Sorted(maps.Keys(s.items[key])) {
		r := ref{key, item}
		if _, ok := here[item]; !ok || s.documents[r].uid != text.UID {
			s.dropDocument(r)
		}
	}
	for _, item := range sorted(here) {
		s.takeDocument(text, here[item])
	}
}

func (s *State) dropDocument(r ref) {
	s.reindexPolicy(r, s.documents[r].inForce(), nil)
	delete(s.documents, r)
	s.reindexAccess(r)
	s.items.remove(r.configMap, r.item)
	s.dirty.documents.add(r)
}

func (s *State) takeDocument(text *model.PolicyText, source model.PolicyDocument) {
	r := ref{text.Key, source.Item}
	d := s.documents[r]
	var kept *model.SavedService
	if d == nil {
		d, kept = s.restore(r, text)
	} else if d.source == source && d.created.Equal(text.Created) {
		return
	}
	before := d.inForce()
	d.created, d.source, d.layout = text.Created, source, nil
	doc, problems := s.parse(r, source)
	d.problems = problems
	if doc == nil {
		d.kind, d.hash = "", hashOf([]byte(source.Text))
	} else {
		d.kind, d.hash = doc.Kind, doc.Hash
		d.accept(versionOf(source.Text, doc))
	}
	s.reindexPolicy(r, before, d.inForce())
	if kept != nil {
		s.remember(d, kept)
	}
}

// parse reads a document, nil if it has errors.
func (s *State) parse(r ref, d model.PolicyDocument) (*policy.Document, []policy.Problem) {
	doc, problems := policy.Parse(policy.Source{
		Text: d.Text, File: d.File, Line: d.Line, Column: d.Column, Pinned: d.Pinned,
		Namespace: r.configMap.Namespace, System: r.configMap.Namespace == s.options.Namespace,
	})
	if policy.Failed(problems) {
		return nil, problems
	}
	return doc, problems
}

// accept puts a good version in force, unless proxies refused it.
func (d *document) accept(v version) {
	if slices.Contains(d.refused, v.hash) {
		return
	}
	if d.accepted() {
		v.text = d.good[0].text // the same content in another form need not be saved
		d.good[0] = v
		return
	}
	d.good = slices.DeleteFunc(d.good, func(o version) bool { return o.hash == v.hash })
	d.good = slices.Insert(d.good, 0, v)
	d.good = d.good[:min(len(d.good), history)]
}

// restore begins a document with what was kept of it before a restart, and gives the Service that it protected then.
func (s *State) restore(r ref, text *model.PolicyText) (*document, *model.SavedService) {
	d := &document{ref: r, uid: text.UID, reasons: map[string]string{}}
	s.documents[r] = d
	s.items.add(r.configMap, r.item)
	kept := s.kept[r]
	if kept.UID != text.UID {
		return d, nil
	}
	d.refused = kept.Refused
	for _, old := range append([]model.SavedText{{Text: kept.Good, Hash: kept.GoodHash}}, kept.Earlier...) {
		if old.Text == "" {
			continue
		}
		if doc, _ := s.parse(r, model.PolicyDocument{Item: r.item, Text: old.Text}); doc != nil {
			d.good = append(d.good, versionOf(old.Text, doc))
		}
	}
	return d, kept.Protects
}

// takeRefusal takes a version out of force that proxies would not have. Only another text is tried again.
func (s *State) takeRefusal(r *model.Refusal) {
	d := s.documents[ref{r.Policy, r.Item}]
	if d == nil {
		return
	}
	at := slices.IndexFunc(d.good, func(v version) bool { return v.hash == r.Hash })
	if at < 0 && d.broughtIn(r.Hash) {
		at = 0
	}
	if at < 0 {
		return // about a version that is long gone, or a part that is older than what is in force
	}
	before, hash := d.inForce(), d.good[at].hash
	d.good = slices.Delete(slices.Clone(d.good), at, at+1)
	d.refused = append(slices.Clone(d.refused), hash)
	if over := len(d.refused) - refusals; over > 0 {
		delete(d.reasons, d.refused[0])
		d.refused = d.refused[over:]
	}
	d.reasons[hash] = r.Reason
	s.reindexPolicy(d.ref, before, d.inForce())
}

// broughtIn says whether the version in force has a part of this hash that the good version before it had not: a
// resource is made of parts of many versions and documents, and what was good before is not what proxies refuse.
func (d *document) broughtIn(hash string) bool {
	has := func(v version) bool {
		for _, h := range v.parts {
			if h == hash {
				return true
			}
		}
		return false
	}
	return len(d.good) > 0 && has(d.good[0]) && (len(d.good) == 1 || !has(d.good[1]))
}

// reindexPolicy notes what a document speaks of, and marks what it spoke of before and does now.
func (s *State) reindexPolicy(r ref, before, now *policy.Document) {
	s.dirty.documents.add(r)
	s.reindexAccess(r)
	if before != now {
		s.documents[r].joined = nil // found out anew below
	}
	if before != nil && before != now {
		switch before.Kind {
		case policy.KindTraffic:
			key := serviceNamed(before.Traffic.Service, r.configMap.Namespace)
			s.policiesOf.remove(key, r)
			s.dirty.traffic.add(key)
		case policy.KindMesh:
			delete(s.meshDocuments, r)
			s.dirty.defaults = true
		}
	}
	if now != nil {
		switch now.Kind {
		case policy.KindTraffic:
			key := serviceNamed(now.Traffic.Service, r.configMap.Namespace)
			s.policiesOf.add(key, r)
			s.dirty.traffic.add(key)
		case policy.KindMesh:
			s.meshDocuments.add(r)
			s.dirty.defaults = true
		}
	}
}

// serviceNamed completes a reference with the namespace that it is relative to.
func serviceNamed(s policy.ServiceRef, namespace string) model.Key {
	return model.Key{Namespace: cmp.Or(s.Namespace, namespace), Name: s.Name}
}

// toSave gives what has to outlive a restart of a document.
func (s *State) toSave(d *document) model.SavedPolicy {
	saved := model.SavedPolicy{ConfigMap: d.ref.configMap, UID: d.uid, Item: d.ref.item, Refused: d.refused, Protects: s.protectedBy(d)}
	for i, v := range d.good {
		if i == 0 {
			saved.Good, saved.GoodHash = v.text, v.hash
		} else {
			saved.Earlier = append(saved.Earlier, model.SavedText{Text: v.text, Hash: v.hash})
		}
	}
	return saved
}
