package translator

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/heddle-mesh/heddle/model"
)

// outboundPort is where redirection sends what leaves the pod.
const outboundPort = 15001

// Frame is what every sidecar has, whatever the mesh holds: the listener that redirected connections arrive at, which
// hands each over to the listener of its original destination, and the clusters for destinations that have none.
func Frame(s *model.Settings, capture Capture) Resources {
	out := Resources{Clusters: []*clusterv3.Cluster{passthrough(s), refused(s)}}
	if capture.Redirected() {
		out.Listeners = []*listenerv3.Listener{captureListener(s)}
	}
	return out
}

func captureListener(s *model.Settings) *listenerv3.Listener {
	unknown := passthroughCluster
	if s.RefuseUnknown {
		unknown = refusedCluster
	}
	return &listenerv3.Listener{
		Name:                outboundCapture,
		Address:             socket(netip.IPv4Unspecified(), outboundPort),
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socket(netip.IPv6Unspecified(), outboundPort)}},
		UseOriginalDst:      yes(),
		TrafficDirection:    corev3.TrafficDirection_OUTBOUND,
		DefaultFilterChain:  tcpChain(tcpTo("ob|"+unknown, unknown, 0)),
		Metadata:            provenance(originsOf(s.Origins, "unknownDestinations")...),
	}
}

// connectTimeout is what no policy can set differently: of connections to no Service, and to a sidecar's own
// application. It is the same 10 s that policies have by default; Envoy's own are 5.
const connectTimeout = 10 * time.Second

// passthrough goes where the caller wanted to go.
func passthrough(s *model.Settings) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 passthroughCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       duration(connectTimeout),
		CircuitBreakers:      unlimited(),
		Metadata:             provenance(originsOf(s.Origins, "unknownDestinations")...),
	}
}

// refused has no endpoints, so a connection to it is closed and counted under its name.
func refused(s *model.Settings) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 refusedCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		Metadata:             provenance(originsOf(s.Origins, "unknownDestinations")...),
	}
}
