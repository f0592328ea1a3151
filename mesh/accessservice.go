package mesh

import (
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// serviceCover is what Access documents of one Service speak of at a pod.
type serviceCover struct {
	names map[uint16][]policy.Port // by the pod's port: the Service's for it
	ports map[uint16]model.PodPort // what the Service declares, or declared last
	// gone says that there is no such Service. What it called its ports does not count then: documents let nobody in.
	gone bool
}

// coverOf finds the ports of a pod that documents of a Service speak of. Here selectors count beside slices, which come
// later than the pod and go with the Service: a pod must not be open in between.
func (s *State) coverOf(pod *model.Pod, key model.Key, targets map[uint16][]target) *serviceCover {
	c := &serviceCover{names: map[uint16][]policy.Port{}, ports: map[uint16]model.PodPort{}}
	last := s.protected[key].service
	if svc := s.services[key]; svc == nil || svc.fact == nil {
		c.gone = true
		s.coverListed(c, pod, key)
	}
	for number, ts := range targets {
		for _, t := range ts {
			if t.svc.fact.Key == key {
				c.names[number] = append(c.names[number], policy.Port(t.port.Number))
			}
		}
	}
	if last == nil || !selects(last, pod) {
		return c
	}
	for _, p := range last.Ports {
		number := targetPort(p, pod)
		if number == 0 {
			continue
		}
		if name := policy.Port(p.Number); !slices.Contains(c.names[number], name) {
			c.names[number] = append(c.names[number], name)
		}
		c.ports[number] = model.PodPort{Number: number, Protocol: p.Protocol, Declared: p.Declared}
	}
	return c
}

// coverListed adds the ports that slices of a Service which is not there say of a pod.
func (s *State) coverListed(c *serviceCover, pod *model.Pod, key model.Key) {
	for k := range s.podSlices[pod.Key] {
		slice := s.slices[k]
		if serviceOf(slice) != key || !lists(slice, pod) {
			continue
		}
		for _, p := range slice.Ports {
			c.names[p.Number] = nil
			c.ports[p.Number] = model.PodPort{Number: p.Number, Protocol: model.TCP}
		}
	}
}

// selects says that a Service sends to a pod, as soon as slices follow.
func selects(svc *model.SavedService, pod *model.Pod) bool {
	return svc.Kind != model.ExternalName && len(svc.Selector) > 0 && pod.Labels.Contains(svc.Selector)
}

// targetPort is the pod's port that a Service port leads to, 0 if the pod has none of that name.
func targetPort(p model.Port, pod *model.Pod) uint16 {
	if p.TargetName == "" {
		return p.Target
	}
	for _, own := range pod.Ports {
		if own.Name == p.TargetName {
			return own.Number
		}
	}
	return 0
}

// memory is what is known of a Service that Access documents name.
type memory struct {
	service *model.SavedService
	by      *document // whose memory it is, of the time before a restart; nil: the Service itself was there since
}

// protect remembers a Service that Access documents name, as it is or was last: they do not cease to hold for its pods
// when it is deleted. What no document names any more is forgotten.
func (s *State) protect(key model.Key) {
	if len(s.accessOf[key]) == 0 {
		delete(s.protected, key)
	} else if svc := s.services[key]; svc != nil && svc.fact != nil {
		s.protected[key] = memory{service: &model.SavedService{
			Name: key.Name, Kind: svc.fact.Kind, Selector: svc.fact.Selector, Ports: svc.fact.Ports,
		}}
	}
}

// remember takes what was kept of a Service that a document named before a restart, if the document still names it and
// the Service is gone. If not all documents had the same kept of it, the first of them counts, whichever comes first here.
func (s *State) remember(d *document, kept *model.SavedService) {
	if p := s.access[d.ref]; p == nil || p.service != kept.Name {
		return
	}
	key := model.Key{Namespace: d.ref.configMap.Namespace, Name: kept.Name}
	if now := s.protected[key]; now.service != nil && (now.by == nil || now.by.compare(d) < 0) {
		return
	}
	s.markProtected(key)
	s.protected[key] = memory{kept, d}
	s.markProtected(key)
	s.dirty.documents.addAll(s.accessOf[key])
}

// protectedBy gives the Service that a document protects, nil if it names none, or none that was ever there.
func (s *State) protectedBy(d *document) *model.SavedService {
	p := s.access[d.ref]
	if p == nil || p.service == "" {
		return nil
	}
	return s.protected[model.Key{Namespace: d.ref.configMap.Namespace, Name: p.service}].service
}

// markProtected marks the pods that a Service selects, or selected last, if documents say who may call them.
func (s *State) markProtected(key model.Key) {
	last := s.protected[key].service
	if last == nil {
		return
	}
	for pod := range s.podsIn[key.Namespace] {
		if selects(last, s.pods[pod]) {
			s.dirty.workloads.add(pod)
		}
	}
}

// strictest is the greatest word that a document says of mtls, for ports of which it is not known how it calls them.
func strictest(a *policy.Access) policy.MTLSMode {
	mode := a.MTLS
	for _, m := range a.Ports {
		mode = max(mode, m)
	}
	return mode
}

// declare gives what is known of a port that documents name and the pod does not: what their Services say of it.
func (j *joinAccess) declare(number uint16) model.PodPort {
	for _, p := range j.parts {
		if p.service == "" {
			continue
		}
		if port, ok := j.covers[p.service].ports[number]; ok {
			return port
		}
	}
	return model.PodPort{Number: number, Protocol: model.TCP} // as ports are that nobody named
}
