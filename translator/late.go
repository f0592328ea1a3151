package translator

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	acceptproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	sendproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/heddle-mesh/heddle/model"
)

// This file is for callers that are late with their first bytes. One listener receives all ports under redirection, and
// looks at the first bytes for as long as the least patient port may, since on that a client may wait for the server to
// speak first. On a port where clients always speak first, a caller that is short of CPU would then be taken for one
// that speaks plain text, and its handshake for a request. So such a caller is handed, addresses and all, to a second
// listener, which waits for as long as it takes.

// lateSocket is where the second listener is: in the pod's own network namespace, and in no file system.
const lateSocket = "@heddle-late"

// patient says that on this port what a caller is can be seen by its first bytes, however late they come. So it is where
// the protocol is told and clients speak first, and on a strict port, as whoever may call speaks TLS first.
func patient(p model.InboundPort) bool {
	return p.Protocol.IsHTTP() && p.MTLS == model.MTLSPermissive || p.Protocol == model.Detect && p.MTLS == model.MTLSStrict
}

// handingOver adds what becomes of callers of a patient port who have said nothing in time. What is recognized as HTTP
// goes on at once; all else has time.
func handingOver(p model.InboundPort, chains []*listenerv3.FilterChain) []*listenerv3.FilterChain {
	late := func(transport string) *listenerv3.FilterChain {
		c := tcpChain(tcpTo(inboundLate, inboundLate, 0))
		c.Name = "late"
		if transport != "" {
			c.Name += "-" + transport
		}
		return matching(c, transport)
	}
	if p.MTLS == model.MTLSStrict {
		return append(chains, late(plainTransport))
	}
	last := len(chains) - 1
	matching(chains[last], plainTransport, detectedHTTP()...)
	return append(chains, late(plainTransport), late(""))
}

// lateListener waits for the first bytes at the patient ports, and goes on as the first one would have. It is nil if
// there are none. Whoever has to prove who it is has to begin in time.
func lateListener(w *model.Workload) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name:             inboundLate,
		StatPrefix:       inboundLate,
		Address:          pipe(lateSocket),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		Metadata:         provenance(podOrigin(w)),
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.proxy_protocol",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: typed(&acceptproxyv3.ProxyProtocol{})},
		}, tlsInspector()},
		ListenerFiltersTimeout: duration(handshakeTimeout),
	}
	for _, p := range w.Ports {
		if patient(p) {
			if p.MTLS == model.MTLSPermissive {
				l.ListenerFiltersTimeout = duration(0)
			}
			l.FilterChains = append(l.FilterChains, atPort(p, inboundChains(w.Settings, p))...)
		}
	}
	if len(l.FilterChains) == 0 {
		return nil
	}
	return l
}

// lateCluster leads to the second listener, and tells it who called whom.
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
func lateCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: inboundLate, ConnectTimeout: duration(connectTimeout), CircuitBreakers: unlimited(),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: inboundLate, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: pipe(lateSocket)},
			}}},
		}}},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.upstream_proxy_protocol",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(&sendproxyv3.ProxyProtocolUpstreamTransport{
				Config:          &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2},
				TransportSocket: plainText(),
			})},
		},
	}
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}
