package translator

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/heddle-mesh/heddle/model"
)

// Proxyless translates the API listeners of a Service's gRPC ports, for clients that speak xDS themselves and have no
// sidecar. They are given out by name only, see [ProxylessNames]; the clusters and endpoints are those of sidecars.
// Of a route they get what gRPC knows: matches, weights, timeouts and retries (gRFC A27, A28, A31, A44).
func Proxyless(o *model.Outbound) []*listenerv3.Listener {
	var out []*listenerv3.Listener
	for _, p := range o.Ports {
		if p.Protocol != model.GRPC && p.Protocol != model.HTTP2 {
			continue
		}
		for _, name := range ProxylessNames(o.Service.Key, p.Number, o.Settings.ClusterDomain) {
			out = append(out, &listenerv3.Listener{
				Name:        name,
				ApiListener: &listenerv3.ApiListener{ApiListener: typed(apiManager(o, p))},
				Metadata:    provenance(portOrigin(o, p)),
			})
		}
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
		out = append(out, r)
	}
	return out
}
