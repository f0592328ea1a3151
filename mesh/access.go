package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// accessPart is what an Access document speaks of, and what it says.
type accessPart struct {
	document *document
	labels   model.Labels // of the pods; with service empty too: all of the namespace
	service  string
	says     *policy.Access // nil: no version of it is good, and so it denies
}

// accessPart gives what a document says of access, nil if that is nothing. One that is no good, and was to be an Access
// document, denies: authorization does not become weaker by a mistake.
func (d *document) accessPart() *accessPart {
	if doc := d.inForce(); doc != nil && doc.Kind == policy.KindAccess {
		return &accessPart{document: d, labels: model.LabelsOf(doc.Access.Workload), service: doc.Access.Service, says: doc.Access}
	}
	if d.accepted() {
		return nil
	}
	covered, ok := policy.Covered(d.source.Text)
	if !ok {
		return nil
	}
	return &accessPart{document: d, labels: model.LabelsOf(covered.Workload), service: covered.Service}
}

// wide says that the whole namespace is meant.
func (p *accessPart) wide() bool { return p.service == "" && len(p.labels) == 0 }

// reindexAccess notes what a document says of access now, and marks the workloads that it spoke of before or does now.
func (s *State) reindexAccess(r ref) {
	namespace := r.configMap.Namespace
	if before := s.access[r]; before != nil {
		s.markSelected(before, namespace)
		delete(s.access, r)
		s.accessIn.remove(namespace, r)
		key := model.Key{Namespace: namespace, Name: before.service}
		s.accessOf.remove(key, r)
		defer s.protect(key) // only then is it known whether a document still names it
	}
	d := s.documents[r]
	if d == nil {
		return
	}
	if now := d.accessPart(); now != nil {
		s.access[r] = now
		s.accessIn.add(namespace, r)
		if now.service != "" {
			key := model.Key{Namespace: namespace, Name: now.service}
			s.accessOf.add(key, r)
			s.protect(key)
		}
		s.markSelected(now, namespace)
	}
}

func (s *State) markSelected(p *accessPart, namespace string) {
	if p.service != "" {
		key := model.Key{Namespace: namespace, Name: p.service}
		s.markPodsOf(key)
		s.markProtected(key)
		return
	}
	for pod := range s.podsIn[namespace] {
		if s.pods[pod].Labels.Contains(p.labels) {
			s.dirty.workloads.add(pod)
		}
	}
}

// accessDefaults are what the mesh has for what no Access document says.
type accessDefaults struct {
	access policy.DefaultAccess
	mtls   policy.MTLSMode
	mode   policy.AccessMode
	origin model.Origin // of access
}

// updateAccessDefaults takes what Mesh documents say, and marks every workload if it differs.
func (s *State) updateAccessDefaults(j *join, l level) {
	now := accessDefaults{access: policy.WithDefaults(policy.Mesh{}).Access}
	builtin := policy.WithDefaults(policy.AccessDefaults{})
	now.mtls, now.mode = builtin.MTLS, builtin.Mode
	winners := map[policy.Path]*document{}
	take := func(src source, at policy.Path, written bool) bool {
		if first := winners[at]; written && first != nil {
			j.tellConflict(src, at, first.ref.configMap, first.ref.item)
		}
		if !written || winners[at] != nil {
			return false
		}
		winners[at] = src.document
		return true
	}
	for _, src := range l {
		m := src.document.inForce().Mesh
		if take(src, "access", m.Access != "") {
			now.access, now.origin = m.Access, src.document.origin("access")
		}
		d := policy.AccessDefaults{}
		if m.Defaults != nil && m.Defaults.Access != nil {
			d = *m.Defaults.Access
		}
		if take(src, "defaults.access.mtls", d.MTLS != "") {
			now.mtls = d.MTLS
		}
		if take(src, "defaults.access.mode", d.Mode != "") {
			now.mode = d.Mode
		}
	}
	if s.accessDefaults != now {
		s.accessDefaults = now
		for key := range s.workloads {
			s.dirty.workloads.add(key)
		}
	}
}

// joinAccess puts together what documents say of one pod.
type joinAccess struct {
	pod      *model.Pod
	defaults accessDefaults
	parts    []*accessPart            // that may speak of a port of the pod, by precedence
	covers   map[string]*serviceCover // by the Services that they name
	problems []accessProblem
}

// accessProblem is what one workload has to say to the writer of a document.
type accessProblem struct {
	ref     ref
	problem policy.Problem
}

func (s *State) joinAccess(pod *model.Pod, targets map[uint16][]target) *joinAccess {
	j := &joinAccess{pod: pod, defaults: s.accessDefaults, covers: map[string]*serviceCover{}}
	for r := range s.accessIn[pod.Key.Namespace] {
		if p := s.access[r]; p.service != "" || pod.Labels.Contains(p.labels) {
			j.parts = append(j.parts, p)
			if p.service != "" && j.covers[p.service] == nil {
				j.covers[p.service] = s.coverOf(pod, model.Key{Namespace: pod.Key.Namespace, Name: p.service}, targets)
			}
		}
	}
	slices.SortFunc(j.parts, func(a, b *accessPart) int { return a.document.compare(b.document) })
	return j
}

// numbers are the ports of the pod that documents name, be they declared or not.
func (j *joinAccess) numbers() set[uint16] {
	all := set[uint16]{}
	for _, c := range j.covers {
		for number := range c.names {
			all.add(number)
		}
	}
	for _, p := range j.parts {
		if p.service != "" || p.says == nil {
			continue
		}
		for number := range p.says.Ports {
			all.add(uint16(number))
		}
		for _, r := range or(p.says.Rules, nil) {
			for _, number := range r.Ports {
				all.add(uint16(number))
			}
		}
	}
	return all
}

// names gives the numbers by which a part may name a port of the pod: the Service's for it, or the port's own. False
// says that the part does not speak of the port.
func (j *joinAccess) names(p *accessPart, number uint16) (names []policy.Port, ok bool) {
	if p.service == "" {
		return []policy.Port{policy.Port(number)}, true
	}
	names, ok = j.covers[p.service].names[number]
	return names, ok
}

// gone says that a part speaks of a Service that is not there.
func (j *joinAccess) gone(p *accessPart) bool { return p.service != "" && j.covers[p.service].gone }

// receive adds to a port who may call. The port 0 stands for those that nobody named.
func (j *joinAccess) receive(port *model.InboundPort) {
	port.MTLS = model.MTLSPermissive
	if j.mtls(port.Number) == policy.MTLSStrict {
		port.MTLS = model.MTLSStrict
	}
	a := rules{join: j, port: port}
	for _, p := range j.parts {
		if names, ok := j.names(p, port.Number); ok {
			a.add(p, names)
		}
	}
	port.Access = a.access()
}

// mtls is the mode of a port: what is said of workload or Service goes before what is said of the namespace, and at each
// of them the port before the whole, so that an exception for a namespace weakens nobody who asked for more.
func (j *joinAccess) mtls(number uint16) policy.MTLSMode {
	for _, wide := range []bool{false, true} {
		for _, key := range []policy.Path{"ports", "mtls"} {
			if mode := j.mtlsAt(number, wide, key); mode != "" {
				return mode
			}
		}
	}
	return j.defaults.mtls
}

// mtlsAt is what the first document of a level says under a key. The others are told.
func (j *joinAccess) mtlsAt(number uint16, wide bool, key policy.Path) (mode policy.MTLSMode) {
	var winner *accessPart
	for _, p := range j.parts {
		if p.wide() != wide || p.says == nil {
			continue
		}
		said := policy.MTLSMode("")
		names, ok := j.names(p, number)
		if ok && j.gone(p) {
			said, names = strictest(p.says), nil
		}
		for _, name := range names {
			if key == "mtls" {
				said = p.says.MTLS
			} else { // two ports of the Service may lead to this one: strict is the greater word
				said = max(said, p.says.Ports[name])
			}
		}
		switch {
		case said == "":
		case winner == nil:
			mode, winner = said, p
		default:
			j.tellConflict(p, key, winner)
		}
	}
	return mode
}

func (j *joinAccess) tellConflict(loser *accessPart, at policy.Path, winner *accessPart) {
	j.tell(loser, at, policy.CodeConflict, "remove it from one of the two", fmt.Sprintf(
		"has no effect: %s in ConfigMap %s sets it too, and is older or first by name", winner.document.ref.item, winner.document.ref.configMap))
}

func (j *joinAccess) tell(p *accessPart, at policy.Path, code policy.Code, hint, message string) {
	said := accessProblem{p.document.ref, p.document.problem(at, code, hint, message)}
	if !slices.Contains(j.problems, said) {
		j.problems = append(j.problems, said)
	}
}

// replaceAccessProblems takes what one workload has to say instead of what it said before: a hundred pods say the same
// once.
func (s *State) replaceAccessProblems(before, now []accessProblem) {
	for _, p := range now {
		if s.accessProblems[p.ref] == nil {
			s.accessProblems[p.ref] = map[policy.Problem]int{}
		}
		s.accessProblems[p.ref][p.problem]++
		s.dirty.documents.add(p.ref)
	}
	for _, p := range before {
		all := s.accessProblems[p.ref]
		if all[p.problem]--; all[p.problem] == 0 {
			delete(all, p.problem)
		}
		if len(all) == 0 {
			delete(s.accessProblems, p.ref)
		}
		s.dirty.documents.add(p.ref)
	}
}

// tellAccess gives a document what there is to say of it beside its text.
func (s *State) tellAccess(d *document) {
	p := s.access[d.ref]
	d.denying = nil
	if p == nil {
		return
	}
	if p.says == nil {
		told := d.problem("", policy.CodeDenying, "mend it, or delete it", "no version of it was good, so that it denies every call of "+p.subject())
		d.denying = &told
		return
	}
	d.joined = slices.SortedFunc(maps.Keys(s.accessProblems[d.ref]), func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	if p.service == "" {
		return
	}
	key := model.Key{Namespace: d.ref.configMap.Namespace, Name: p.service}
	svc := s.services[key]
	if svc == nil || svc.fact == nil {
		message := fmt.Sprintf("there is no Service %s", key)
		if s.protected[key].service != nil {
			message += " any more: this document lets nobody call the pods that it selected"
		}
		d.joined = append(d.joined, d.problem("service", policy.CodeNoService, "correct the name, or create the Service", message))
		return
	}
	for i, r := range or(p.says.Rules, nil) {
		for k, number := range r.Ports {
			if _, ok := portNumbered(svc.fact, uint16(number)); !ok {
				d.joined = append(d.joined, d.problem(policy.Path("rules").Index(i).Field("ports").Index(k), policy.CodeNoPort,
					"write a port of the Service", fmt.Sprintf("Service %s has no port %d, so that the rule never matches there", key, number)))
			}
		}
	}
}

// subject says to people what a part speaks of.
func (p *accessPart) subject() string {
	namespace := p.document.ref.configMap.Namespace
	switch {
	case p.service != "":
		return "Service " + model.Key{Namespace: namespace, Name: p.service}.String()
	case len(p.labels) > 0:
		return "pods " + p.labels.String() + " in namespace " + namespace
	}
	return "all pods in namespace " + namespace
}
