package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// destination is a Service that a route names, before it is known which of its ports is meant.
type destination struct {
	source source
	at     policy.Path
	target model.Target   // as written
	fact   *model.Service // nil if it is missing

	percent float64 // of a mirror
}

// setRoutes converts the routes of a document, and resolves their targets for each port of the Service.
func (j *join) setRoutes(res *resolved, src source) {
	res.routes = make([][]model.Route, len(j.service.Ports))
	for i := range src.filled.Routes {
		p := &src.filled.Routes[i]
		at := src.at.Field("routes").Index(i)
		r, to, mirrors := route(p), j.destinations(src, at, p.To), j.mirrored(src, at, p.Mirror)
		j.checkRoute(src, at, &r, to)
		res.traffic.Routes = append(res.traffic.Routes, withTargets(r, to, mirrors, destination.written))
		for n, called := range j.service.Ports {
			if called.Protocol == model.TCP && !splitsTCP(&r, to) {
				continue
			}
			resolve := func(d destination) model.Target { return j.resolveTarget(d, called) }
			res.routes[n] = append(res.routes[n], withTargets(r, to, mirrors, resolve))
		}
	}
}

// splitsTCP says that a route can hold for connections of which nothing but their port is known.
func splitsTCP(r *model.Route, to []destination) bool { return len(r.Matches) == 0 && len(to) > 0 }

// withTargets completes a route.
func withTargets(r model.Route, to, mirrors []destination, resolve func(destination) model.Target) model.Route {
	for _, d := range to {
		r.To = append(r.To, resolve(d))
	}
	for _, d := range mirrors {
		r.Mirror = append(r.Mirror, model.Mirror{Target: resolve(d), Percent: d.percent})
	}
	return r
}

func (d destination) written() model.Target { return d.target }

func (j *join) destinations(src source, at policy.Path, written []policy.Target) []destination {
	var all []destination
	for i, p := range written {
		t := model.Target{Service: serviceNamed(p.Service, j.service.Key.Namespace), Port: or(p.Port, 0),
			Subset: model.LabelsOf(p.Subset), Weight: or(p.Weight, 0)}
		all = append(all, j.destination(src, at.Field("to").Index(i), t))
	}
	return all
}

func (j *join) mirrored(src source, at policy.Path, written []policy.Mirror) []destination {
	var all []destination
	for i, p := range written {
		t := model.Target{Service: serviceNamed(p.Service, j.service.Key.Namespace), Port: or(p.Port, 0),
			Subset: model.LabelsOf(p.Subset)}
		d := j.destination(src, at.Field("mirror").Index(i), t)
		d.percent = float64(or(p.Percent, 0))
		all = append(all, d)
	}
	return all
}

// destination looks for the Service that a target names, and notes that it does.
func (j *join) destination(src source, at policy.Path, t model.Target) destination {
	d := destination{source: src, at: at, target: t}
	j.targets[t.Service] = append(j.targets[t.Service], mention{t.Subset, t.Subset.String(), src.document.ref, src.document.created})
	svc := j.state.services[t.Service]
	switch {
	case svc == nil || svc.fact == nil:
		d.target.Missing = fmt.Sprintf("there is no Service %s", t.Service)
	case svc.fact.Kind == model.ExternalName:
		d.target.Missing = fmt.Sprintf("Service %s is an ExternalName, which has no pods", t.Service)
	case j.state.subsets[t.Service].over.has(t.Subset.String()):
		d.target.Missing = fmt.Sprintf("Service %s has %d other subsets that go before", t.Service, maxSubsets)
		j.tell(src, at.Field("subset"), policy.CodeSubsets, "route to fewer subsets",
			"%s: %s", d.target.Missing, fate(at, "this share"))
		return d
	default:
		d.fact = svc.fact
		if !svc.reach.hasSubset(t.Subset) {
			j.tell(src, at.Field("subset"), policy.CodeNoEndpoints, "correct the labels, or wait for pods that have them",
				"no endpoint of Service %s has the labels %s: %s", t.Service, t.Subset, fate(at, "this share"))
		}
		return d
	}
	j.tell(src, at.Field("service"), policy.CodeNoService, "correct the name, or create the Service", "%s: %s", d.target.Missing, fate(at, "this share"))
	return d
}

// fate is what becomes of a share of requests whose target is not there. What a mirror is answered is thrown away in any
// case.
func fate(at policy.Path, share string) string {
	if strings.Contains(string(at), ".mirror[") {
		return "these copies go nowhere"
	}
	return share + " is answered 503"
}

// resolveTarget decides which port of a target a call of a port goes to: the one that is written, else the one of
// the same number, else the only one if it carries the same.
func (j *join) resolveTarget(d destination, called model.Port) model.Target {
	t := d.target
	number := cmp.Or(t.Port, called.Number)
	if d.fact == nil {
		t.Port = number
		return t
	}
	port, ok := portNumbered(d.fact, number)
	if only := d.fact.Ports; !ok && t.Port == 0 && len(only) == 1 && (only[0].Protocol == model.TCP) == (called.Protocol == model.TCP) {
		port, ok = only[0], true
	}
	t.Port = number
	if !ok {
		t.Missing = fmt.Sprintf("Service %s has no port %d", t.Service, number)
		share := "this share"
		if d.target.Port == 0 {
			share = fmt.Sprintf("this share of calls to port %d", called.Number)
		}
		j.tell(d.source, d.at, policy.CodeNoPort, "write the port that is meant", "%s: %s", t.Missing, fate(d.at, share))
		return t
	}
	t.Port = port.Number
	if port.Protocol == model.TCP && called.Protocol != model.TCP {
		j.tell(d.source, d.at, policy.CodeNotHTTP, "route to a port with HTTP, or correct the port's name or appProtocol",
			"port %d of Service %s is declared %s, and is sent HTTP", port.Number, t.Service, port.Protocol)
	}
	return t
}

func portNumbered(svc *model.Service, number uint16) (model.Port, bool) {
	for _, p := range svc.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return model.Port{}, false
}

// checkRoute tells what a route asks for in vain.
func (j *join) checkRoute(src source, at policy.Path, r *model.Route, to []destination) {
	http := slices.ContainsFunc(j.service.Ports, func(p model.Port) bool { return p.Protocol != model.TCP })
	if !http && !splitsTCP(r, to) {
		j.tell(src, at, policy.CodeNotHTTP, "correct the name or appProtocol of the Service's ports",
			"has no effect: no port of Service %s may carry HTTP", j.service.Key)
	}
	elsewhere := func(d destination) bool { return d.target.Service != j.service.Key }
	if r.RateLimit != nil && slices.ContainsFunc(to, elsewhere) {
		j.tell(src, at.Field("rateLimit"), policy.CodeIgnoredField, "limit the rate in the policies of the other Services too",
			"holds in the pods of Service %s alone, not in those of other Services that the route sends to", j.service.Key)
	}
}
