package translator

import (
	"net/netip"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// inboundPort is where redirection sends what arrives at the pod.
const inboundPort = 15006

// Inbound translates what one sidecar receives. Under redirection it is one listener with a chain per port, and a
// chain for ports that nobody declared; without, a listener per port at the pod's own address.
func Inbound(w *model.Workload, capture Capture) Resources {
	var out Resources
	for _, p := range w.Ports {
		if p.Protocol != model.TCP {
			out.Routes = append(out.Routes, inboundRoutes(p))
		}
		out.Clusters = append(out.Clusters, appClusters(p, capture)...)
		if !capture.Redirected() && len(w.Pod.Addresses) > 0 {
			out.Listeners = append(out.Listeners, boundListener(w, p))
		}
	}
	if capture.Redirected() {
		out.Clusters = append(out.Clusters, appCluster(inboundAny, 0, capture))
		out.Listeners = append(out.Listeners, inboundListener(w))
	}
	return out
}

// boundListener stands for one port at the pod's address.
func boundListener(w *model.Workload, p model.InboundPort) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:             inboundName(p.Number),
		Address:          socket(w.Pod.Addresses[0], uint32(p.Number)),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		Metadata:         provenance(podOrigin(w)),
	}
	http, tcp := inboundChains(p)
	protocolChains(l, p.Protocol, http, tcp, w.Settings.DetectionTimeout)
	return l
}

func podOrigin(w *model.Workload) model.Origin {
	return model.Origin{Kind: "Pod", Key: w.Pod.Key, Hash: w.Pod.UID}
}

// inboundListener is the redirected form. The protocol of a port that needs detection is looked at on that port alone:
// elsewhere a server that speaks first would wait for a client that does too.
func inboundListener(w *model.Workload) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:                inboundCapture,
		Address:             socket(netip.IPv4Unspecified(), inboundPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socket(netip.IPv6Unspecified(), inboundPort)}},
		TrafficDirection:    corev3.TrafficDirection_INBOUND,
		Metadata:            provenance(podOrigin(w)),
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.original_dst",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: typed(&originaldstv3.OriginalDst{})},
		}},
		ListenerFiltersTimeout:           duration(w.Settings.DetectionTimeout / 2),
		ContinueOnListenerFiltersTimeout: true,
		DefaultFilterChain:               tcpChain(tcpTo(inboundAny, inboundAny, 0)),
	}
	inspect := httpInspector()
	var detected []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range w.Ports {
		http, tcp := inboundChains(p)
		if p.Protocol == model.Detect {
			detected = append(detected, destinationPort(p.Number))
			http.FilterChainMatch = &listenerv3.FilterChainMatch{ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}}
		}
		for _, chain := range []*listenerv3.FilterChain{http, tcp} {
			if chain == nil {
				continue
			}
			chain.Name = inboundName(p.Number) + "|" + chain.Name
			if chain.FilterChainMatch == nil {
				chain.FilterChainMatch = &listenerv3.FilterChainMatch{}
			}
			chain.FilterChainMatch.DestinationPort = wrapperspb.UInt32(uint32(p.Number))
			l.FilterChains = append(l.FilterChains, chain)
		}
	}
	if len(detected) > 0 {
		inspect.FilterDisabled = not(anyOf(detected))
		l.ListenerFilters = append(l.ListenerFilters, inspect)
	}
	return l
}

// inboundChains gives the chains that a port's protocol may need: HTTP, TCP, or both.
func inboundChains(p model.InboundPort) (http, tcp *listenerv3.FilterChain) {
	if p.Protocol != model.TCP {
		http = httpChain(httpOptions{
			prefix:  inboundName(p.Number),
			routes:  rds(inboundName(p.Number)),
			idle:    p.IdleTimeout,
			filters: inboundHTTPFilters(),
			remove:  []string{"x-envoy-"},
			reply:   markFailures(),
			guarded: rulesOnPaths(p),
		})
	}
	if !p.Protocol.IsHTTP() {
		tcp = tcpChain(tcpTo(inboundName(p.Number), inboundCluster(p.Number, toTCP), p.IdleTimeout))
	}
	return http, tcp
}

// rulesOnPaths says that what this port lets through depends on the path. The matches of routes without a limit count
// as well: what passes for one of them meets no later limit.
func rulesOnPaths(p model.InboundPort) bool {
	onPath := func(m model.Match) bool { return m.Path != nil }
	return slices.ContainsFunc(p.Limits, func(l model.RouteLimit) bool {
		return slices.ContainsFunc(l.Matches, onPath) || slices.ContainsFunc(l.Unless, onPath)
	})
}

// markFailures tells callers' sidecars which of this sidecar's own answers stand for a failure of the application:
// UF is a connection that failed, UC and UR are ones that broke or were reset.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage#response-flags
func markFailures() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		markReplies(headerFailure, failureConnect, "UF"), markReplies(headerFailure, failureReset, "UC", "UR"),
	}}
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

func destinationPort(port uint16) *listenerv3.ListenerFilterChainMatchPredicate {
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
		DestinationPortRange: &typev3.Int32Range{Start: int32(port), End: int32(port) + 1},
	}}
}

func anyOf(rules []*listenerv3.ListenerFilterChainMatchPredicate) *listenerv3.ListenerFilterChainMatchPredicate {
	if len(rules) == 1 {
		return rules[0]
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
	}}
}

func not(rule *listenerv3.ListenerFilterChainMatchPredicate) *listenerv3.ListenerFilterChainMatchPredicate {
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: rule}}
}
