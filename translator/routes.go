package translator

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// routeConfiguration is the route table of one Service port. It has a single virtual host for every authority: which
// Service is meant is known by the address that was called, so a request under any Host follows its routes.
func routeConfiguration(o *model.Outbound, p model.OutboundPort, name, own string) *routev3.RouteConfiguration {
	t := o.Traffic
	var routes []*routev3.Route
	for i := range p.Routes {
		routes = append(routes, renderRoute(o, p, &p.Routes[i], own)...)
	}
	fallback := &model.Route{Name: "default"}
	routes = append(routes, renderRoute(o, p, fallback, own)...)
	return &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    statName(o.Service.Key.String()),
			Domains: []string{"*"},
			Routes:  routes,
		}},
		ResponseHeadersToRemove: []string{headerFailure, headerFlags},
		ValidateClusters:        no(), // one missing cluster fails its own share, not the table
		Metadata:                provenance(append([]model.Origin{portOrigin(o, p)}, routeOrigins(t)...)...),
	}
}

// renderRoute gives one Envoy route for each of a route's alternatives, in the order that they are written.
func renderRoute(o *model.Outbound, p model.OutboundPort, r *model.Route, own string) []*routev3.Route {
	var matches []*routev3.RouteMatch
	var paths []*model.PathMatch
	for _, m := range r.Matches {
		for _, rm := range routeMatches(m) {
			matches, paths = append(matches, rm), append(paths, m.Path)
		}
	}
	if len(r.Matches) == 0 {
		matches, paths = []*routev3.RouteMatch{anyPath()}, []*model.PathMatch{nil}
	}
	var out []*routev3.Route
	for i, m := range matches {
		route := &routev3.Route{
			Name:                    r.Name,
			Match:                   m,
			StatPrefix:              statName(r.Name),
			RequestHeadersToAdd:     headersToAdd(r.RequestHeaders),
			RequestHeadersToRemove:  r.RequestHeaders.Remove,
			ResponseHeadersToAdd:    headersToAdd(r.ResponseHeaders),
			ResponseHeadersToRemove: r.ResponseHeaders.Remove,
			TypedPerFilterConfig:    perRoute(r),
		}
		setAction(route, o, p, r, paths[i], own)
		out = append(out, route)
	}
	return out
}

// perRoute configures the filters that do something only where a route says so.
func perRoute(r *model.Route) map[string]*anypb.Any {
	config := map[string]*anypb.Any{}
	if r.Fault != nil {
		config[filterFault] = typed(fault(r.Fault))
	}
	if r.CORS != nil {
		config[filterCORS] = typed(cors(r.CORS))
	}
	if len(config) == 0 {
		return nil
	}
	return config
}

// setAction is what happens to a request that a route takes.
func setAction(to *routev3.Route, o *model.Outbound, p model.OutboundPort, r *model.Route, path *model.PathMatch, own string) {
	switch {
	case r.Redirect != nil:
		to.Action = &routev3.Route_Redirect{Redirect: redirect(r.Redirect, path)}
	case r.Direct != nil:
		to.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(r.Direct)}
	default:
		to.Action = &routev3.Route_Route{Route: forward(o, p, r, path, own)}
	}
}

// forward sends a request on.
func forward(o *model.Outbound, p model.OutboundPort, r *model.Route, path *model.PathMatch, own string) *routev3.RouteAction {
	t := o.Traffic
	a := &routev3.RouteAction{
		Timeout:               duration(orElse(r.Timeout, t.Timeout)), // 15 s without
		IdleTimeout:           duration(orElse(r.IdleTimeout, t.IdleTimeout)),
		RetryPolicy:           retryPolicy(retriesOf(r, t)),
		HashPolicy:            hashPolicies(o, r.HashOn),
		RequestMirrorPolicies: mirrors(p, r.Mirror),
	}
	destination(a, p, r.To, own)
	rewrite(a, r.Rewrite, path)
	return a
}

func orElse(d *time.Duration, otherwise time.Duration) time.Duration {
	if d != nil {
		return *d
	}
	return otherwise
}

// retriesOf is a route's own retries, else the Service's, unless the route wants none.
func retriesOf(r *model.Route, t *model.Traffic) *model.Retries {
	switch {
	case r.NoRetries:
		return nil
	case r.Retries != nil:
		return r.Retries
	}
	return t.Retries
}

// destination chooses the cluster, by weight where there are several.
func destination(a *routev3.RouteAction, p model.OutboundPort, to []model.Target, own string) {
	switch len(to) {
	case 0:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: own}
	case 1:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: targetCluster(p, to[0])}
	default:
		weighted := &routev3.WeightedCluster{}
		for _, t := range to {
			weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{
				Name: targetCluster(p, t), Weight: wrapperspb.UInt32(t.Weight),
			})
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
}

// targetCluster names where a target's share goes. A target that is missing gets a name that no cluster has, which
// Envoy answers with 503 and the response flag NC, and only that share of requests.
func targetCluster(p model.OutboundPort, t model.Target) string {
	port := t.Port
	if port == 0 {
		port = p.Number
	}
	name := ClusterName(t.Service, port, t.Subset)
	if t.Missing != "" {
		return "missing|" + name
	}
	return name
}

// mirrors sends copies. The copy keeps its authority: Envoy would append -shadow, which no server expects.
func mirrors(p model.OutboundPort, ms []model.Mirror) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	for _, m := range ms {
		if m.Target.Missing != "" {
			continue // there is nothing to answer for a copy
		}
		out = append(out, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:                       targetCluster(p, m.Target),
			RuntimeFraction:               runtimePercent(m.Percent),
			DisableShadowHostSuffixAppend: true,
		})
	}
	return out
}
