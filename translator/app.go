package translator

import (
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// inboundRoutes sends what arrives at a port to the application, if it may be called,
// and through the rate limits of its routes.
func inboundRoutes(s *model.Settings, p model.InboundPort) *routev3.RouteConfiguration {
	var routes []*routev3.Route
	var origins []model.Origin
	if p.Access != nil {
		origins = append(origins, p.Access.Origins...)
	}
	for _, l := range p.Limits {
		origins = append(origins, l.Origin)
		for _, m := range l.Unless {
			routes = append(routes, appRoutes(p, "default", routeMatch(m, nil), nil)...)
		}
		name := limitName(l)
		for _, m := range limitMatches(l) {
			routes = append(routes, appRoutes(p, name, m, limitedBy(name))...)
		}
	}
	routes = append(routes, appRoutes(p, "default", anyPath(), nil)...)
	return &routev3.RouteConfiguration{
		Name: inboundName(p.Number),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "app", Domains: []string{"*"}, Routes: routes, TypedPerFilterConfig: rateLimits(p.Limits),
			Metadata: accessCodes(p.Access),
		}},
		ValidateClusters:        no(),
		RequestHeadersToRemove:  []string{headerProtocol},
		ResponseHeadersToRemove: []string{headerAccess, headerFailure, headerFlags}, // only sidecars say these
		TypedPerFilterConfig:    accessOnRoutes(p.Access, trustDomainPrefix(s)),
		Metadata:                provenance(origins...),
	}
}

// limitMatches are the alternatives that a limit is for.
func limitMatches(l model.RouteLimit) []*routev3.RouteMatch {
	if len(l.Matches) == 0 {
		return []*routev3.RouteMatch{anyPath()}
	}
	var out []*routev3.RouteMatch
	for _, m := range l.Matches {
		out = append(out, routeMatch(m, nil))
	}
	return out
}

// appRoutes sends one match to the application in its own protocol. Where that is not declared it is the calling
// application's: the caller's sidecar says so if it was HTTP/1, and otherwise what arrives is right.
func appRoutes(p model.InboundPort, name string, m *routev3.RouteMatch, metadata *corev3.Metadata) []*routev3.Route {
	to := func(protocol string, match *routev3.RouteMatch) *routev3.Route {
		return &routev3.Route{
			Name: name, Match: match, Metadata: metadata,
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: inboundCluster(p.Number, protocol)},
				Timeout:          duration(0),
				IdleTimeout:      duration(p.IdleTimeout),
			}},
		}
	}
	if protocols := appProtocols(p); len(protocols) == 1 {
		return []*routev3.Route{to(protocols[0], m)}
	}
	h1 := proto.CloneOf(m)
	h1.Headers = append(h1.Headers, header(headerProtocol, hasPrefix("HTTP/1")))
	return []*routev3.Route{to(toH1, h1), to(toSame, m)}
}

// appProtocols are the HTTP protocols that an application may be spoken to with.
func appProtocols(p model.InboundPort) []string {
	switch {
	case p.HTTP == model.HTTPVersion1:
		return []string{toH1}
	case p.HTTP == model.HTTPVersion2, p.Protocol == model.HTTP2, p.Protocol == model.GRPC:
		return []string{toH2}
	}
	return []string{toH1, toSame}
}

// appClusters lead to the application, one per protocol that it may be spoken to with.
func appClusters(p model.InboundPort, capture Capture) []*clusterv3.Cluster {
	var out []*clusterv3.Cluster
	if !p.Protocol.IsHTTP() {
		out = append(out, appCluster(inboundCluster(p.Number, toTCP), p.Number, capture))
	}
	if p.Protocol == model.TCP {
		return out
	}
	for _, protocol := range appProtocols(p) {
		c := appCluster(inboundCluster(p.Number, protocol), p.Number, capture)
		o := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: commonHTTP(model.Connection{})}
		speak(o, model.HTTP, map[string]model.HTTPVersion{toH1: model.HTTPVersion1, toH2: model.HTTPVersion2}[protocol])
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpProtocolKey: typed(o)}
		c.OutlierDetection = streak(p)
		out = append(out, c)
	}
	return out
}

// appCluster reaches the application: at the address that was called, from a source that redirection exempts; or,
// without redirection, at the address where the application is said to listen.
func appCluster(name string, port uint16, capture Capture) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name, AltStatName: statName(name), ConnectTimeout: duration(connectTimeout), CircuitBreakers: unlimited(),
	}
	if !capture.Redirected() {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LoadAssignment = static(name, socket(capture.App, uint32(port)))
		return c
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	c.UpstreamBindConfig = appSource()
	return c
}

// appSource is where connections to the application come from under redirection, by family: what comes from elsewhere
// would be redirected to the sidecar again.
func appSource() *corev3.BindConfig {
	v6 := netip.AddrFrom16([16]byte{15: 6})
	return &corev3.BindConfig{
		SourceAddress:        socket(netip.AddrFrom4([4]byte{127, 0, 0, 6}), 0).GetSocketAddress(),
		ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: socket(v6, 0).GetSocketAddress()}},
	}
}

// streak counts consecutive failures of the application without acting on them: the control plane hears of them and
// tells every caller.
func streak(p model.InboundPort) *clusterv3.OutlierDetection {
	if p.Streak == 0 {
		return nil
	}
	none := enforced(false)
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:                        wrapperspb.UInt32(p.Streak),
		EnforcingConsecutive_5Xx:               none,
		EnforcingConsecutiveGatewayFailure:     none,
		EnforcingConsecutiveLocalOriginFailure: none,
		EnforcingSuccessRate:                   none,
		EnforcingLocalOriginSuccessRate:        none,
		EnforcingFailurePercentage:             none,
		EnforcingFailurePercentageLocalOrigin:  none,
	}
}
