package translator

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/heddle-mesh/heddle/model"
)

// Proxyless translates the API listeners of a Service's gRPC ports, for clients that speak xDS themselves and have no
// sidecar, and the clusters that routes may name. All are given out by name only, see [ProxylessNames]; the endpoints
// are those of sidecars. Of a route they get what gRPC knows: matches, weights, timeouts and retries (gRFC A27, A28,
// A31, A44).
func Proxyless(o *model.Outbound) Resources {
	var out Resources
	for _, p := range o.Ports {
		if p.Protocol != model.TCP {
			out.Clusters = append(out.Clusters, proxylessClusters(o, p)...)
		}
		if p.Protocol != model.GRPC && p.Protocol != model.HTTP2 {
			continue
		}
		for _, name := range ProxylessNames(o.Service.Key, p.Number, o.Settings.ClusterDomain) {
			out.Listeners = append(out.Listeners, &listenerv3.Listener{
				Name:        name,
				ApiListener: &listenerv3.ApiListener{ApiListener: typed(apiManager(o, p))},
				Metadata:    provenance(portOrigin(o, p)),
			})
		}
	}
	return out
}

// proxylessClusters are a port's clusters for clients without the mesh's identity: gRPC refuses a cluster that has
// transport_socket_matches (gRFC A29).
func proxylessClusters(o *model.Outbound, p model.OutboundPort) []*clusterv3.Cluster {
	out := portClusters(o, p)
	for _, c := range out {
		c.EdsClusterConfig.ServiceName = c.Name
		c.Name = proxylessCluster(c.Name)
		c.TransportSocket, c.TransportSocketMatches = nil, nil
	}
	return out
}

func apiManager(o *model.Outbound, p model.OutboundPort) *hcmv3.HttpConnectionManager {
	name := PortName(o.Service.Key, p.Number)
	routes := routeConfiguration(o, p, name, ownCluster(o, p))
	for _, h := range routes.VirtualHosts {
		h.Routes = forGRPC(h.Routes)
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix:     statName(name),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		HttpFilters:    []*hcmv3.HttpFilter{httpFilter(filterRouter, &routerv3.Router{})},
	}
}

// forGRPC leaves out what gRPC would misunderstand: a route that matches on query parameters is ignored by it, one on
// the caller would match every caller, and a redirect or direct response fails the call.
func forGRPC(routes []*routev3.Route) []*routev3.Route {
	var out []*routev3.Route
	for _, r := range routes {
		if r.GetRoute() == nil || len(r.Match.FilterState) > 0 || len(r.Match.QueryParameters) > 0 {
			continue
		}
		r.TypedPerFilterConfig = nil // faults and CORS name filters that an API listener does not have
		renameClusters(r.GetRoute())
		out = append(out, r)
	}
	return out
}

func renameClusters(a *routev3.RouteAction) {
	if to, ok := a.ClusterSpecifier.(*routev3.RouteAction_Cluster); ok {
		to.Cluster = proxylessCluster(to.Cluster)
	}
	for _, w := range a.GetWeightedClusters().GetClusters() {
		w.Name = proxylessCluster(w.Name)
	}
	for _, m := range a.RequestMirrorPolicies {
		m.Cluster = proxylessCluster(m.Cluster)
	}
}
