package mesh

import (
	"reflect"
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// resolved is the Traffic of a Service as one audience has it.
type resolved struct {
	traffic  *model.Traffic
	routes   [][]model.Route // the Traffic's, by the Service's ports, with their targets resolved
	locality policy.Locality // of all callers: it decides what the endpoints are
}

// source is a document's part in a Traffic. Built-in values are a source without a document.
type source struct {
	document *document
	at       policy.Path     // of the part in the document
	written  *policy.Traffic // what the writer has a say in
	filled   *policy.Traffic // the same with built-in values in place of what was not written
}

// level is the documents that speak about a Service from one place: a caller's namespace, the Service's own, or the
// mesh's. Within a level the first that writes a field has it, and an earlier level goes before a later one.
type level []source

// updateTraffic resolves the policies of a Service anew and marks what differs by it.
func (s *State) updateTraffic(key model.Key) {
	levels := s.levelsOf(key)
	j := newJoin(s)
	now := map[string]*resolved{}
	svc := s.services[key]
	switch {
	case svc == nil || svc.fact == nil:
		j.tellNoService(levels, "there is no Service %s", key)
	case svc.fact.Kind == model.ExternalName:
		j.tellNoService(levels, "Service %s is an ExternalName, which has no pods", key)
	default:
		j.service = svc.fact
		now[""] = j.resolve(levels[key.Namespace], s.meshLevel)
		for _, audience := range sorted(levels) {
			j.tellConflicts(levels[audience])
			j.tellNotHTTP(levels[audience])
			if audience != key.Namespace {
				j.tellForeign(levels[audience])
				now[audience] = j.resolve(levels[audience], levels[key.Namespace], s.meshLevel)
			}
		}
	}
	for _, l := range levels {
		j.deliver(l)
	}
	s.setTargets(key, j.targets)
	if svc != nil && !reflect.DeepEqual(svc.traffic, now) {
		svc.traffic = now
		s.dirty.endpoints.add(key)
		s.dirty.outbounds.add(key)
		s.markPodsOf(key)
	}
}

// levelsOf gives the documents about a Service by the namespace that they are in.
func (s *State) levelsOf(key model.Key) map[string]level {
	levels := map[string]level{}
	for r := range s.policiesOf[key] {
		version := &s.documents[r].good[0]
		src := source{document: s.documents[r], written: version.doc.Traffic, filled: version.traffic}
		if r.configMap.Namespace != key.Namespace {
			own := *src.written
			own.HealthCheck = nil // checks run in the server's pods, where a caller's namespace has no say
			src.written = &own
		}
		levels[r.configMap.Namespace] = append(levels[r.configMap.Namespace], src)
	}
	for _, l := range levels {
		l.sort()
	}
	return levels
}

// sort orders the documents of a level by precedence.
func (l level) sort() {
	slices.SortFunc(l, func(a, b source) int { return a.document.compare(b.document) })
}

// pick gives the source of each field.
func pick(levels ...level) map[model.Field]source {
	picked := map[model.Field]source{}
	for _, f := range trafficFields() {
		for _, l := range levels {
			if i := slices.IndexFunc(l, func(src source) bool { return f.written(src.written) }); i >= 0 {
				picked[f.name] = l[i]
				break
			}
		}
	}
	return picked
}

// builtinLevel is the level below all others.
func builtinLevel() level {
	settings := policy.Traffic{TrafficSettings: policy.WithDefaults(policy.TrafficSettings{})}
	return level{{written: &settings, filled: &settings}}
}

// resolveDefaults resolves what holds for a Service that no policy speaks of.
func (s *State) resolveDefaults() *resolved {
	return newJoin(s).merge(pick(s.meshLevel, s.builtin))
}

// resolve merges the levels field by field. Services that no policy speaks of share one value.
func (j *join) resolve(levels ...level) *resolved {
	if !slices.ContainsFunc(levels[:len(levels)-1], func(l level) bool { return len(l) > 0 }) {
		return j.state.defaults
	}
	return j.merge(pick(append(levels, j.state.builtin)...))
}

func (j *join) merge(picked map[model.Field]source) *resolved {
	res := &resolved{traffic: &model.Traffic{Origins: map[model.Field]model.Origin{}}}
	for _, f := range trafficFields() {
		src, ok := picked[f.name]
		if !ok {
			continue
		}
		if f.set != nil {
			f.set(res.traffic, src.filled)
		}
		if src.document != nil {
			res.traffic.Origins[f.name] = src.origin(f.name)
		}
	}
	if src, ok := picked[fieldRoutes]; ok {
		j.setRoutes(res, src)
	}
	if h := res.traffic.HealthCheck; h != nil && h.Port != 0 && j.service != nil {
		if _, ok := portNumbered(j.service, h.Port); !ok {
			src := picked[fieldHealthCheck]
			j.tell(src, src.at.Field("healthCheck").Field("port"), policy.CodeNoPort, "write a port of the Service, or none for its first",
				"Service %s has no port %d, so that nothing is checked", j.service.Key, h.Port)
		}
	}
	res.locality = picked[fieldLoadBalancer].filled.LoadBalancer.Locality
	j.setBudget(res.traffic, picked[fieldRetries])
	return res
}

// setBudget bounds what is retried, unless a fixed number of retries does.
func (j *join) setBudget(t *model.Traffic, retries source) {
	written := retries.document != nil && retries.written.Retries.Budget != nil
	switch {
	case written && t.CircuitBreaker.MaxRetries > 0:
		j.tell(retries, retries.at.Field("retries").Field("budget"), policy.CodeConflict,
			"remove one of the two", "has no effect: maxRetries of the circuitBreaker of %s holds",
			t.Origins["circuitBreaker"].Key)
	case written:
		t.Budget = budget(*retries.filled.Retries.Budget)
	case t.CircuitBreaker.MaxRetries == 0 && retriesAnything(t):
		t.Budget = budget(policy.WithDefaults(policy.RetryBudget{}))
	}
}

func retriesAnything(t *model.Traffic) bool {
	return t.Retries != nil || slices.ContainsFunc(t.Routes, func(r model.Route) bool { return r.Retries != nil })
}
