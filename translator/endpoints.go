package translator

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// Endpoints translates where a Service's pods are, as seen by callers at a location: one assignment per port, and one
// per port and subset. Where closeness does not count the location does not either, see [Local].
func Endpoints(e *model.Endpoints, at model.Location) []*endpointv3.ClusterLoadAssignment {
	var out []*endpointv3.ClusterLoadAssignment
	for _, p := range e.Ports {
		out = append(out, assignment(e, p, nil, at))
		for _, subset := range e.Subsets {
			out = append(out, assignment(e, p, subset, at))
		}
	}
	return out
}

// Local says how much of a caller's location Endpoints depends on: all callers share a list, those in one zone, or
// those on one node.
func Local(e *model.Endpoints) model.Preference {
	if e.NodeLocal {
		return model.PreferNode
	}
	return e.Prefer
}

func assignment(e *model.Endpoints, p model.PortEndpoints, subset model.Labels, at model.Location) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: ClusterName(e.Service, p.Port, subset)}
	origins, known := provenance(endpointOrigins(e, p)...), ways{}
	for _, g := range grouped(e, p, subset, at) {
		l := &endpointv3.LocalityLbEndpoints{
			Locality:            &corev3.Locality{Region: g.region, Zone: g.zone},
			LoadBalancingWeight: wrapperspb.UInt32(uint32(len(g.members))),
			Priority:            g.priority,
			Metadata:            origins,
		}
		for _, ep := range g.members {
			l.LbEndpoints = append(l.LbEndpoints, lbEndpoint(ep, known.to(e.Service, ep)))
		}
		a.Endpoints = append(a.Endpoints, l)
	}
	return a
}

func endpointOrigins(e *model.Endpoints, p model.PortEndpoints) []model.Origin {
	return append([]model.Origin{{Kind: "Service", Key: e.Service, Part: portPart(p.Port)}}, e.Origins...)
}

// group is endpoints that Envoy may treat alike. Failing ones come last and are not left out: each caller ejects
// endpoints of its own accord too, and where many of the others are out as well they have to help again. Envoy's word
// for this would be DEGRADED, but ring-hash and maglev never choose such an endpoint, and gRPC drops it.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/priority
type group struct {
	failing      bool
	distance     uint32
	region, zone string
	priority     uint32
	members      []*model.Endpoint
}

// grouped picks the endpoints of a port, or of a subset, and puts them in order.
func grouped(e *model.Endpoints, p model.PortEndpoints, subset model.Labels, at model.Location) []group {
	var out []group
	for i := range p.Endpoints {
		ep := &p.Endpoints[i]
		if !ep.Labels.Contains(subset) || (e.NodeLocal && ep.Node != at.Node) {
			continue
		}
		g := group{region: ep.Region, zone: ep.Zone, distance: distance(e.Prefer, ep, at), failing: ep.Failing}
		of := slices.IndexFunc(out, func(o group) bool { return o.compare(&g) == 0 }) // there are a handful of zones
		if of < 0 {
			of = len(out)
			g.members = make([]*model.Endpoint, 0, len(p.Endpoints))
			out = append(out, g)
		}
		out[of].members = append(out[of].members, ep)
	}
	slices.SortFunc(out, func(a, b group) int { return a.compare(&b) })
	for i := 1; i < len(out); i++ {
		out[i].priority = out[i-1].priority
		if out[i].failing != out[i-1].failing || out[i].distance != out[i-1].distance {
			out[i].priority++ // Envoy wants priorities without gaps
		}
	}
	return out
}

func (g *group) compare(o *group) int {
	return cmp.Or(last(g.failing)-last(o.failing), cmp.Compare(g.distance, o.distance), cmp.Compare(g.region, o.region), cmp.Compare(g.zone, o.zone))
}

func last(failing bool) int {
	if failing {
		return 1
	}
	return 0
}

// distance is 0 for the endpoints to prefer. Hints that Kubernetes computed for topology-aware routing count for more
// than where an endpoint is. Envoy goes on to the next distance when too few of the nearer endpoints are healthy.
func distance(prefer model.Preference, ep *model.Endpoint, at model.Location) uint32 {
	sameZone := ep.Zone != "" && ep.Zone == at.Zone
	if len(ep.ForZones) > 0 {
		sameZone = slices.Contains(ep.ForZones, at.Zone)
	}
	sameNode := ep.Node != "" && ep.Node == at.Node
	if len(ep.ForNodes) > 0 {
		sameNode = slices.Contains(ep.ForNodes, at.Node)
	}
	switch {
	case prefer == model.PreferNone, prefer == model.PreferNode && sameNode, prefer == model.PreferZone && sameZone:
		return 0
	case prefer == model.PreferNode && sameZone:
		return 1
	}
	return 2
}

func lbEndpoint(ep *model.Endpoint, way *corev3.Metadata) *endpointv3.LbEndpoint {
	out := &endpointv3.LbEndpoint{
		Metadata: way,
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socket(ep.Address.Addr(), uint32(ep.Address.Port())),
		}},
	}
	if !ep.Healthy {
		out.HealthStatus = corev3.HealthStatus_UNHEALTHY
	}
	return out
}
