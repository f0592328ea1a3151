package bootstrap

import (
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// staticResources are the clusters that cannot come over ADS: the control plane, and where its certificates come from.
func (o Options) staticResources() *bootstrapv3.Bootstrap_StaticResources {
	return &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{
		grpcCluster(Secrets, pipe(o.SDS, 0)), o.Server.cluster(),
	}}
}

// cluster is the control plane by mutual TLS. It warms until both secrets are there and is dialled then.
func (s Server) cluster() *clusterv3.Cluster {
	host, port, _ := s.split() // validated
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
	c := grpcCluster(ControlPlane, address)
	c.ConnectTimeout = durationpb.New(5 * time.Second)
	c.TransportSocket = controlPlaneTLS(s.ID)
	if _, err := netip.ParseAddr(host); err != nil {
		// LOGICAL_DNS looks up for new connections only. STRICT_DNS would end the stream at each change of an address.
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		// A name that resolves to both would be dialled at its IPv6 address first, also where there is no IPv6.
		c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
	return c
}

func grpcCluster(name string, at *corev3.Address) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(time.Second),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at}},
			}}}},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": mustAny(http2()),
		},
	}
}
