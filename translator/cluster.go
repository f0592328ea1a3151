package translator

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/model"
)

// httpProtocolKey is under which a cluster carries its HTTP options.
const httpProtocolKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// portClusters is the cluster of a port's pods, and one for each subset of them that some route sends to.
func portClusters(o *model.Outbound, p model.OutboundPort) []*clusterv3.Cluster {
	out := []*clusterv3.Cluster{discovered(o, p, nil)}
	for _, subset := range o.Subsets {
		out = append(out, discovered(o, p, subset))
	}
	return out
}

// discovered is a cluster whose endpoints come by EDS.
func discovered(o *model.Outbound, p model.OutboundPort, subset model.Labels) *clusterv3.Cluster {
	c := outboundCluster(o, p, ClusterName(o.Service.Key, p.Number, subset))
	secure(c, o, clusterALPN(p))
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()}
	return c
}

// instanceCluster is one pod of a headless Service.
func instanceCluster(o *model.Outbound, p model.OutboundPort, i model.Instance) *clusterv3.Cluster {
	c := outboundCluster(o, p, instanceName(o.Service.Key, i))
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = static(c.Name, socket(i.Address.Addr(), uint32(i.Address.Port())))
	if i.Meshed {
		c.TransportSocket = clientTLS(o.Settings, model.Key{Namespace: o.Service.Key.Namespace, Name: i.Account}, clusterALPN(p))
	}
	return c
}

func static(name string, at *corev3.Address) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
		}},
	}}}
}

// outboundCluster is a cluster without endpoints, with everything that policy says about the Service.
func outboundCluster(o *model.Outbound, p model.OutboundPort, name string) *clusterv3.Cluster {
	t := o.Traffic
	c := &clusterv3.Cluster{
		Name:                      name,
		AltStatName:               statName(name),
		ConnectTimeout:            optional(t.Connection.ConnectTimeout),
		CircuitBreakers:           circuitBreakers(t),
		OutlierDetection:          outlierDetection(t.Outlier),
		UpstreamConnectionOptions: keepalive(t.Connection.Keepalive),
		Metadata:                  provenance(append([]model.Origin{portOrigin(o, p)}, clusterOrigins(t)...)...),
	}
	balance(c, o)
	if p.Protocol != model.TCP {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpProtocolKey: typed(outboundHTTP(t, p))}
	}
	return c
}

// outboundHTTP is what the caller's sidecar speaks: HTTP/2 to another sidecar whatever the applications speak, and to
// an endpoint without one the application's own protocol.
func outboundHTTP(t *model.Traffic, p model.OutboundPort) *httpv3.HttpProtocolOptions {
	o := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: commonHTTP(t.Connection)}
	o.OutlierDetection = outlierErrors(t.Outlier)
	if p.Hop == model.HopMesh {
		speakHTTP2(o)
		o.HttpFilters = []*hcmv3.HttpFilter{sayProtocol(), upstreamCodec()}
		return o
	}
	speak(o, p.Protocol, t.Connection.HTTP)
	return o
}

// speak sets what an application is spoken to with: what policy or the port's declaration says, else what the caller
// itself spoke.
func speak(o *httpv3.HttpProtocolOptions, p model.Protocol, v model.HTTPVersion) {
	switch {
	case v == model.HTTPVersion1:
		speakHTTP1(o)
	case v == model.HTTPVersion2, p == model.HTTP2, p == model.GRPC:
		speakHTTP2(o)
	default:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: http1Options(), Http2ProtocolOptions: http2Options(),
			},
		}
	}
}

func speakHTTP1(o *httpv3.HttpProtocolOptions) {
	o.UpstreamProtocolOptions = explicit(&httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: http1Options()},
	})
}

func speakHTTP2(o *httpv3.HttpProtocolOptions) {
	o.UpstreamProtocolOptions = explicit(&httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2Options()},
	})
}

func explicit(c *httpv3.HttpProtocolOptions_ExplicitHttpConfig) *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: c}
}

// sayProtocol tells the server's sidecar what the calling application spoke. It stands in the cluster because it
// belongs to this hop: a route may send to a Service without sidecars as well.
func sayProtocol() *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.header_mutation", &mutationv3.HeaderMutation{Mutations: &mutationv3.Mutations{
		RequestMutations: []*mutationrulesv3.HeaderMutation{{Action: &mutationrulesv3.HeaderMutation_Append{
			Append: &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: headerProtocol, Value: "%PROTOCOL%"},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			},
		}}},
	}})
}

// upstreamCodec ends every chain of upstream filters.
func upstreamCodec() *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.upstream_codec", &codecv3.UpstreamCodec{})
}

func commonHTTP(c model.Connection) *corev3.HttpProtocolOptions {
	return &corev3.HttpProtocolOptions{
		MaxRequestsPerConnection: optionalCount(c.MaxRequests),
		MaxHeadersCount:          optionalCount(maxHeaders),
		MaxResponseHeadersKb:     optionalCount(maxHeaderKB),
	}
}

func keepalive(k *model.Keepalive) *clusterv3.UpstreamConnectionOptions {
	if k == nil {
		return nil
	}
	return &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
		KeepaliveProbes:   optionalCount(k.Probes),
		KeepaliveTime:     optionalCount(uint32(k.Time.Seconds())),
		KeepaliveInterval: optionalCount(uint32(k.Interval.Seconds())),
	}}
}

// balance sets how endpoints are chosen.
func balance(c *clusterv3.Cluster, o *model.Outbound) {
	lb := o.Traffic.LoadBalancer
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		HealthyPanicThreshold: panicThreshold(lb.Panic),
		// A second by default: an endpoint that is ejected soon after another change would go on failing requests.
		UpdateMergeWindow: duration(0),
	}
	if o.Service.Affinity > 0 && len(lb.HashOn) == 0 {
		// sessionAffinity ClientIP: the caller's address, which at its own sidecar is the same for all its requests.
		c.LbPolicy = clusterv3.Cluster_MAGLEV
		return
	}
	switch lb.Policy {
	case model.RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		if lb.SlowStart > 0 {
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: slowStart(lb)}}
		}
	case model.Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case model.RingHash:
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: ringHash(lb)}
	case model.Maglev:
		c.LbPolicy = clusterv3.Cluster_MAGLEV
		c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: maglev(lb)}
	default:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if lb.SlowStart > 0 {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: slowStart(lb)}}
		}
	}
}

// panicThreshold is off by default: Envoy would send to endpoints that it knows to be unhealthy once half of them are.
func panicThreshold(p *float64) *typev3.Percent {
	if p == nil {
		return &typev3.Percent{}
	}
	return &typev3.Percent{Value: *p}
}
