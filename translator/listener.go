package translator

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

func yes() *wrapperspb.BoolValue { return wrapperspb.Bool(true) }
func no() *wrapperspb.BoolValue  { return wrapperspb.Bool(false) }

// outboundListener is a listener without name and address, for whatever the port's protocol needs.
func outboundListener(o *model.Outbound, p model.OutboundPort, to outboundTarget) *listenerv3.Listener {
	l := &listenerv3.Listener{
		StatPrefix:       statName(PortName(o.Service.Key, p.Number)),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		Metadata:         provenance(append([]model.Origin{portOrigin(o, p)}, listenerOrigins(o.Traffic)...)...),
	}
	var http, tcp *listenerv3.FilterChain
	if p.Protocol != model.TCP {
		http = httpChain(httpOptions{
			prefix:  PortName(o.Service.Key, p.Number),
			routes:  to.routes,
			inline:  to.inline,
			idle:    o.Traffic.IdleTimeout,
			filters: outboundHTTPFilters(),
			network: []*listenerv3.Filter{callerState()},
			remove:  []string{"x-envoy-", "x-heddle-"},
			reply:   tellFlags(),
		})
	}
	if !p.Protocol.IsHTTP() {
		tcp = tcpChain(tcpProxy(o, p, to.cluster))
	}
	switch {
	case p.Protocol == model.TCP:
		l.FilterChains = []*listenerv3.FilterChain{tcp}
	case p.Protocol.IsHTTP():
		l.FilterChains = []*listenerv3.FilterChain{http}
	default:
		detect(l, http, tcp, o.Settings.DetectionTimeout)
	}
	return l
}

// detect gives a listener both chains with a look at the first bytes. A client that waits for the server to speak first
// is let through as TCP after half of the time for detection: it is on the same host, while the server's sidecar may
// have to wait for one that is far away. The two never wait for the same client: between them there is mutual TLS, and
// its ALPN says what comes.
func detect(l *listenerv3.Listener, http, tcp *listenerv3.FilterChain, limit time.Duration) {
	http.FilterChainMatch = &listenerv3.FilterChainMatch{ApplicationProtocols: detectedHTTP()}
	tcp.Filters = append([]*listenerv3.Filter{offerTCP()}, tcp.Filters...)
	l.FilterChains = []*listenerv3.FilterChain{http}
	l.DefaultFilterChain = tcp
	l.ListenerFilters = []*listenerv3.ListenerFilter{httpInspector()}
	l.ListenerFiltersTimeout = duration(limit / 2)
	l.ContinueOnListenerFiltersTimeout = true
}

// detectedHTTP is what the HTTP inspector calls what it finds.
func detectedHTTP() []string { return []string{"http/1.0", "http/1.1", "h2c"} }

func tlsInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: typed(&tlsinspectorv3.TlsInspector{})},
	}
}

func httpInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.http_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: typed(&httpinspectorv3.HttpInspector{})},
	}
}

// routeSource is the name of a route configuration that is fetched over ADS.
type routeSource string

func rds(name string) routeSource { return routeSource(name) }

// httpOptions are what differs between the HTTP chains of a sidecar.
type httpOptions struct {
	prefix  string // of statistics
	routes  routeSource
	inline  *routev3.RouteConfiguration // instead of routes
	idle    time.Duration               // of a stream
	filters []*hcmv3.HttpFilter
	network []*listenerv3.Filter // before the HTTP connection manager
	remove  []string             // prefixes of request headers that nobody may send here
	folded  []string             // request headers that nobody may spell with underscores
	reply   *hcmv3.LocalReplyConfig
	log     []*accesslogv3.AccessLog
	caller  clientCertificate
	guarded bool          // rules on paths stand here that nobody may get around
	age     time.Duration // after which the connection is replaced; zero: never
}

// clientCertificate says what an application is told of who called, in x-forwarded-client-cert. What a caller sends
// under that name is always removed.
type clientCertificate uint8

const (
	callerUntold clientCertificate = iota
	callerProved                   // the identity in the certificate that was verified
)

// httpChain is a chain that ends in an HTTP connection manager. Every limit that Envoy would set by itself is
// switched off or raised out of the way: the mesh adds no limit that nobody asked for.
func httpChain(o httpOptions) *listenerv3.FilterChain {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix:  statName(o.prefix),
		CodecType:   hcmv3.HttpConnectionManager_AUTO,
		HttpFilters: o.filters,
		// 5 minutes by default; routes carry what policies ask for.
		StreamIdleTimeout: duration(o.idle),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     duration(0), // of connections without requests; an hour by default
			MaxHeadersCount: wrapperspb.UInt32(maxHeaders),
		},
		MaxRequestHeadersKb:  wrapperspb.UInt32(maxHeaderKB),
		HttpProtocolOptions:  serverHTTP1(),
		Http2ProtocolOptions: http2Options(),
		UpgradeConfigs:       upgrades(),
		// A client's address is not for its headers to decide, and no address is trusted with Envoy's own headers.
		UseRemoteAddress:              no(),
		XffNumTrustedHops:             nobodysHops,
		InternalAddressConfig:         &hcmv3.HttpConnectionManager_InternalAddressConfig{},
		EarlyHeaderMutationExtensions: foreignHeaders(o.remove, o.folded),
		ForwardClientCertDetails:      hcmv3.HttpConnectionManager_SANITIZE,
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		PreserveExternalRequestId:     true,
		LocalReplyConfig:              o.reply,
		AccessLog:                     o.log,
		// What RFC 3986, 6.2.2, makes one path takes one route: /./search must not get around the limit of /search.
		NormalizePath: yes(),
	}
	if o.guarded {
		guardPaths(m)
	}
	if o.age > 0 {
		replaceAfter(m, o.age)
	}
	if o.inline != nil {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: o.inline}
	} else {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: string(o.routes)}}
	}
	if o.caller == callerProved {
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	}
	return &listenerv3.FilterChain{Name: "http", Filters: append(o.network, &listenerv3.Filter{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(m)},
	})}
}

// guardPaths makes one path of what an application may take for one: many read // as /, and %2F and %5C as the
// characters that they encode. Adjacent slashes are merged; an escaped one, which may be either, is answered 400.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/header_operation_order
func guardPaths(m *hcmv3.HttpConnectionManager) {
	m.MergeSlashes = true
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
}

// replaceAfter bounds how long a connection goes on after the certificates of its handshake: nobody looks at these again.
// The caller is told not to use it any more, which fails no request: by GOAWAY over HTTP/2, with 5 s for what is on its
// way, and with the next answer over HTTP/1.1. What is under way then ends when it ends; the connection stays as long.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/protocol.proto#config-core-v3-httpprotocoloptions
func replaceAfter(m *hcmv3.HttpConnectionManager, age time.Duration) {
	m.CommonHttpProtocolOptions.MaxConnectionDuration = duration(age)
	// Up to a tenth more: connections that began together, after an outage, must not end together.
	m.CommonHttpProtocolOptions.MaxConnectionDurationJitter = &typev3.Percent{Value: 10}
	m.Http1SafeMaxConnectionDuration = true
}

const (
	maxHeaders  = 1000 // 100 by default
	maxHeaderKB = 1024 // 60 by default
	// nobodysHops has Envoy skip more addresses in x-forwarded-for than anybody can write there, before it takes one for
	// the client's: so it takes the connection's. UseRemoteAddress would do that too, and rewrite x-forwarded-proto.
	nobodysHops = 1<<32 - 1
	// maxStreams is as many concurrent requests on one HTTP/2 connection as the protocol can number (RFC 9113, 5.1.1).
	maxStreams = 1<<31 - 1
)

func http2Options() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams: wrapperspb.UInt32(maxStreams),
		AllowConnect:         true,
	}
}

// http1Options let trailers pass, which Envoy drops between HTTP/1.1 and anything else, while it leaves the header that
// announces them.
func http1Options() *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{EnableTrailers: true}
}

func serverHTTP1() *corev3.Http1ProtocolOptions {
	o := http1Options()
	o.AcceptHttp_10, o.DefaultHostForHttp_10 = true, "unknown"
	return o
}

// upgrades are the protocols that a connection may be upgraded to. Envoy wants each named and answers the others 403: here
// are WebSocket, and what kubectl (spdy/3.1) and Docker (tcp) use for exec and attach. The hop to the server carries them
// as an extended CONNECT (RFC 8441). A request to upgrade to h2c is answered without an upgrade, as servers may.
func upgrades() []*hcmv3.HttpConnectionManager_UpgradeConfig {
	return []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}, {UpgradeType: "spdy/3.1"}, {UpgradeType: "tcp"}}
}

func tcpChain(p *tcpv3.TcpProxy) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: "tcp", Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.tcp_proxy",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(p)},
	}}}
}

// tcpTo forwards bytes to one cluster. An idle connection stays unless idle says otherwise: an hour by default.
func tcpTo(prefix, cluster string, idle time.Duration) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:       statName(prefix),
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster},
		IdleTimeout:      duration(idle),
	}
}

// tcpProxy is how callers' bytes reach a Service port: by the first route that says nothing about HTTP, since a
// connection can be split by weight but not by what it carries.
func tcpProxy(o *model.Outbound, p model.OutboundPort, cluster string) *tcpv3.TcpProxy {
	t := tcpTo(PortName(o.Service.Key, p.Number), cluster, o.Traffic.IdleTimeout)
	// All that is known of a connection, for the clusters that go by a hash, another Service's among them; without it
	// those choose at random. The others do not look at it.
	t.HashPolicy = []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
	for _, r := range p.Routes {
		if len(r.Matches) > 0 || len(r.To) == 0 {
			continue
		}
		var weighted []*tcpv3.TcpProxy_WeightedCluster_ClusterWeight
		for _, to := range r.To {
			if to.Weight > 0 {
				weighted = append(weighted, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{Name: targetCluster(p, to), Weight: to.Weight})
			}
		}
		t.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: &tcpv3.TcpProxy_WeightedCluster{Clusters: weighted}}
		break
	}
	return t
}
