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
	groups := map[group][]*endpointv3.LbEndpoint{}
	for _, ep := range p.Endpoints {
		if !ep.Labels.Contains(subset) || (e.NodeLocal && ep.Node != at.Node) {
			continue
		}
		g := group{region: ep.Region, zone: ep.Zone, distance: distance(e.Prefer, ep, at)}
		groups[g] = append(groups[g], lbEndpoint(e.Service, ep))
	}
	a := &endpointv3.ClusterLoadAssignment{ClusterName: ClusterName(e.Service, p.Port, subset)}
	priority, last := uint32(0), uint32(0)
	for i, g := range sortedGroups(groups) {
		if i > 0 && g.distance != last {
			priority++ // Envoy wants priorities without gaps
		}
		last = g.distance
		a.Endpoints = append(a.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality:            &corev3.Locality{Region: g.region, Zone: g.zone},
			LbEndpoints:         groups[g],
			LoadBalancingWeight: wrapperspb.UInt32(uint32(len(groups[g]))),
			Priority:            priority,
			Metadata:            provenance(append([]model.Origin{{Kind: "Service", Key: e.Service, Part: portPart(p.Port)}}, e.Origins...)...),
		})
	}
	a.Policy = withoutDegraded(a)
	return a
}

// group is endpoints that Envoy may treat alike.
type group struct {
	distance     uint32
	region, zone string
}

func sortedGroups(groups map[group][]*endpointv3.LbEndpoint) []group {
	out := make([]group, 0, len(groups))
	for g := range groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.region, b.region), cmp.Compare(a.zone, b.zone))
	})
	return out
}

// distance is 0 for the endpoints to prefer. Hints that Kubernetes computed for topology-aware routing count for more
// than where an endpoint is. Envoy goes on to the next distance when too few of the nearer endpoints are healthy.
func distance(prefer model.Preference, ep model.Endpoint, at model.Location) uint32 {
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

func lbEndpoint(service model.Key, ep model.Endpoint) *endpointv3.LbEndpoint {
	out := &endpointv3.LbEndpoint{
		Metadata: reachedBy(service, ep),
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socket(ep.Address.Addr(), uint32(ep.Address.Port())),
		}},
	}
	switch {
	case !ep.Healthy:
		out.HealthStatus = corev3.HealthStatus_UNHEALTHY
	case ep.Failing:
		// Not unhealthy: each caller ejects endpoints of its own accord too, and where those are the others nothing would
		// be left. Degraded ones are the last resort.
		out.HealthStatus = corev3.HealthStatus_DEGRADED
	}
	return out
}

// withoutDegraded makes the others enough as long as a caller has ejected none of them: Envoy sends requests to
// degraded endpoints by as much as the share of healthy ones, times this factor, is below 100 %.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/degraded
func withoutDegraded(a *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment_Policy {
	all, degraded := map[uint32]int{}, map[uint32]int{}
	for _, locality := range a.Endpoints {
		for _, e := range locality.LbEndpoints {
			all[locality.Priority]++
			if e.HealthStatus == corev3.HealthStatus_DEGRADED {
				degraded[locality.Priority]++
			}
		}
	}
	factor := 0
	for priority, n := range degraded {
		if rest := all[priority] - n; rest > 0 {
			factor = max(factor, (100*all[priority]+rest-1)/rest)
		}
	}
	if factor <= envoysFactor {
		return nil
	}
	return &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(uint32(factor))}
}

// envoysFactor is the overprovisioning factor that Envoy uses without another.
const envoysFactor = 140
