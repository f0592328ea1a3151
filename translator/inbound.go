package translator

import (
	"net/netip"
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// inboundPort is where redirection sends what arrives at the pod.
const inboundPort = 15006

// Inbound translates what one sidecar receives. Under redirection it is one listener with a chain per port, and a
// chain for ports that nobody declared, and one for callers that are late; without, a listener per port at the pod's own
// address.
func Inbound(w *model.Workload, capture Capture) Resources {
	var out Resources
	for _, p := range w.Ports {
		if p.Protocol != model.TCP {
			out.Routes = append(out.Routes, inboundRoutes(w.Settings, p))
		}
		out.Clusters = append(out.Clusters, appClusters(p, capture)...)
		if !capture.Redirected() && len(w.Pod.Addresses) > 0 {
			out.Listeners = append(out.Listeners, boundListener(w, p))
		}
	}
	if capture.Redirected() {
		out.Clusters = append(out.Clusters, appCluster(inboundAny, 0, capture))
		out.Listeners = append(out.Listeners, inboundListener(w))
		if late := lateListener(w); late != nil {
			out.Clusters, out.Listeners = append(out.Clusters, lateCluster()), append(out.Listeners, late)
		}
	}
	return out
}

// boundListener stands for one port at the pod's address. How long it looks at the first bytes is this port's alone: a
// client that waits for the server to speak first would wait as long.
func boundListener(w *model.Workload, p model.InboundPort) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:             inboundName(p.Number),
		StatPrefix:       inboundName(p.Number),
		Address:          socket(w.Pod.Addresses[0], uint32(p.Number)),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		Metadata:         provenance(podOrigin(w)),
		FilterChains:     inboundChains(w.Settings, p),
	}
	switch {
	case p.MTLS == model.MTLSStrict && p.Protocol != model.Detect:
		return l // one chain: nothing to look for
	case p.MTLS == model.MTLSStrict:
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		l.ListenerFiltersTimeout = duration(handshakeTimeout)
	case p.Protocol.IsHTTP():
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		l.ListenerFiltersTimeout = duration(0) // clients speak first, however late
	default:
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		if p.Protocol == model.Detect {
			l.ListenerFilters = append(l.ListenerFilters, httpInspector())
		}
		l.ListenerFiltersTimeout = duration(w.Settings.DetectionTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}
	return l
}

// handshakeTimeout is how long a caller may take to prove who it is.
const handshakeTimeout = 10 * time.Second

func podOrigin(w *model.Workload) model.Origin {
	return model.Origin{Kind: "Pod", Key: w.Pod.Key, Hash: w.Pod.UID}
}

// inboundListener is the redirected form. It looks at the first bytes on all ports, for the whole time for detection, as
// callers without a sidecar have met no other yet: so long a plain-text client of a permissive port waits that waits
// itself for the server to speak first. Callers with a sidecar never wait, and nobody does on strict ports. Whose first
// bytes come later is handed over on patient ports, see late.go.
//
// The listener filters are the same whatever the ports are: Envoy replaces filter chains one by one, but a listener with
// other listener filters as a whole.
func inboundListener(w *model.Workload) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                inboundCapture,
		StatPrefix:          inboundCapture,
		Address:             socket(netip.IPv4Unspecified(), inboundPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socket(netip.IPv6Unspecified(), inboundPort)}},
		TrafficDirection:    corev3.TrafficDirection_INBOUND,
		Metadata:            provenance(podOrigin(w)),
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.original_dst",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: typed(&originaldstv3.OriginalDst{})},
		}, tlsInspector(), httpInspector()},
		ListenerFiltersTimeout:           duration(w.Settings.DetectionTimeout),
		ContinueOnListenerFiltersTimeout: true,
	}
	for _, p := range w.Ports {
		chains := inboundChains(w.Settings, p)
		if patient(p) {
			chains = handingOver(p, chains)
		}
		l.FilterChains = append(l.FilterChains, atPort(p, chains)...)
	}
	undeclared(l, w)
	return l
}

// atPort makes chains those of one port in a listener that has several.
func atPort(p model.InboundPort, chains []*listenerv3.FilterChain) []*listenerv3.FilterChain {
	for _, chain := range chains {
		chain.Name = inboundName(p.Number) + "|" + chain.Name
		if chain.FilterChainMatch == nil {
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{}
		}
		chain.FilterChainMatch.DestinationPort = wrapperspb.UInt32(uint32(p.Number))
	}
	return chains
}

// undeclared adds the chains for ports that nobody declared: TCP, with the same proof of who calls as elsewhere.
func undeclared(l *listenerv3.Listener, w *model.Workload) {
	p := w.Undeclared
	p.Number, p.Protocol = 0, model.TCP
	chains := inboundChains(w.Settings, p)
	for _, chain := range chains {
		chain.Name = inboundAny + "|" + chain.Name
	}
	last := len(chains) - 1 // the one that takes what the others do not
	l.FilterChains = append(l.FilterChains, chains[:last]...)
	l.DefaultFilterChain = chains[last]
}

// inboundChains gives the chains of a port. The last takes what the others do not, so that no connection to the port
// can end up in a chain that is not the port's: Envoy goes by the port first and does not come back.
//
// A port with one protocol takes both of the mesh's ALPNs for it, as callers may know it by a Service that declares it
// otherwise. A strict port has no chain without mutual TLS.
func inboundChains(s *model.Settings, p model.InboundPort) []*listenerv3.FilterChain {
	strict := p.MTLS == model.MTLSStrict
	if p.Protocol != model.Detect {
		one := inboundTCP
		if p.Protocol.IsHTTP() {
			one = inboundHTTP
		}
		proved := one(s, p, callerProved)
		if strict {
			return []*listenerv3.FilterChain{proved}
		}
		return []*listenerv3.FilterChain{matching(proved, "", alpnHTTP, alpnTCP), one(s, p, callerUntold)}
	}
	http, tcp := inboundHTTP(s, p, callerProved), inboundTCP(s, p, callerProved)
	if strict {
		return []*listenerv3.FilterChain{matching(http, "", alpnHTTP), tcp}
	}
	opaque := inboundTCP(s, p, callerUntold)
	opaque.Name = "tls" // an application's own
	return []*listenerv3.FilterChain{
		matching(http, "", alpnHTTP),
		matching(tcp, "", alpnTCP),
		matching(inboundHTTP(s, p, callerUntold), plainTransport, detectedHTTP()...),
		matching(inboundTCP(s, p, callerUntold), plainTransport),
		opaque,
	}
}

// plainTransport is what Envoy calls a connection in which it saw no TLS.
const plainTransport = "raw_buffer"

func matching(c *listenerv3.FilterChain, transport string, alpns ...string) *listenerv3.FilterChain {
	c.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transport, ApplicationProtocols: alpns}
	return c
}

// mutual lets a chain take only callers that prove to be one of these; nil stands for anybody in the trust domain.
func mutual(s *model.Settings, c *listenerv3.FilterChain, callers []*matcherv3.StringMatcher) {
	if callers == nil {
		callers = []*matcherv3.StringMatcher{hasPrefix(trustDomainPrefix(s))}
	}
	var names []*tlsv3.SubjectAltNameMatcher
	for _, caller := range callers {
		names = append(names, uri(caller))
	}
	c.Name = "mtls-" + c.Name
	c.TransportSocket = serverTLS(names...)
	c.TransportSocketConnectTimeout = duration(handshakeTimeout)
}

// inboundHTTP lets anybody in that proves to be of the mesh: who may call is decided for each request.
func inboundHTTP(s *model.Settings, p model.InboundPort, caller clientCertificate) *listenerv3.FilterChain {
	var age time.Duration
	if caller == callerProved {
		age = s.ConnectionAge
	}
	chain := httpChain(httpOptions{
		prefix:  inboundName(p.Number),
		routes:  rds(inboundName(p.Number)),
		idle:    p.IdleTimeout,
		filters: inboundHTTPFilters(),
		remove:  []string{"x-envoy-"},
		folded:  append(overrides(), "x-forwarded-client-cert"),
		reply:   inboundReplies(),
		caller:  caller,
		guarded: rulesOnPaths(p),
		age:     age,
		log:     httpRefusals(),
	})
	if caller == callerProved {
		mutual(s, chain, nil)
	} else {
		chain.Filters = slices.Insert(chain.Filters, 0, countPlain(p.Number))
	}
	return chain
}

func inboundTCP(s *model.Settings, p model.InboundPort, caller clientCertificate) *listenerv3.FilterChain {
	to := inboundCluster(p.Number, toTCP)
	if p.Number == 0 {
		to = inboundAny
	}
	t := tcpTo(inboundName(p.Number), to, p.IdleTimeout)
	if caller == callerProved {
		// At once by default: an application that speaks first would be heard by callers who have proved nothing yet.
		t.UpstreamConnectMode = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_TLS_HANDSHAKE
		t.MaxEarlyDataBytes = wrapperspb.UInt32(0)
	} else if !tcpTakesAnybody(p.Access) {
		t.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: refusedCluster}
	}
	t.AccessLog = tcpRefusals(p.Access, caller, s.TrustDomain)
	chain := tcpChain(t)
	chain.Metadata = provenance(tcpOrigins(p.Access)...)
	chain.Filters = append(tcpAccess("tcp."+inboundName(p.Number), p.Access, trustDomainPrefix(s)), chain.Filters...)
	if caller == callerProved {
		mutual(s, chain, tcpPrincipals(p.Access, s.TrustDomain))
	} else {
		chain.Filters = slices.Insert(chain.Filters, 0, countPlain(p.Number))
	}
	return chain
}

// rulesOnPaths says that what this port lets through depends on the path. The matches of routes without a limit count
// as well: what passes for one of them meets no later limit.
func rulesOnPaths(p model.InboundPort) bool {
	if rulesOnPathsOf(p.Access) {
		return true
	}
	onPath := func(m model.Match) bool { return m.Path != nil }
	return slices.ContainsFunc(p.Limits, func(l model.RouteLimit) bool {
		return slices.ContainsFunc(l.Matches, onPath) || slices.ContainsFunc(l.Unless, onPath)
	})
}

// inboundReplies says what the answers are that this sidecar makes up.
func inboundReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: append(nameRefusals(), markFailures()...)}
}

// markFailures tells callers' sidecars which of this sidecar's own answers stand for a failure of the application:
// UF is a connection that failed, UC one that broke, and UR a stream that was reset. For the last the details say
// whether it was refused, which is a promise that nothing was done.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage#response-flags
func markFailures() []*hcmv3.ResponseMapper {
	return []*hcmv3.ResponseMapper{
		markReplies(headerFailure, failureConnect, "UF"), markReplies(headerFailure, failureReset, "UC"),
		markReplies(headerFailure, failureReset+" %RESPONSE_CODE_DETAILS%", "UR"),
	}
}

// tellFlags tells an application which answers are its own sidecar's, and why: a 503 of a Service that is not there
// looks like any other otherwise.
func tellFlags() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{markReplies(headerFlags, "%RESPONSE_FLAGS%")}}
}

// markReplies puts a header on the answers that a sidecar makes up with one of these response flags, or any of all.
func markReplies(name, value string, flags ...string) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags},
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: name, Value: value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}
}
