package main

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// named is a resource before it is served.
type named struct {
	name    string
	message proto.Message
}

// name is that of all four resources of a Service.
func name(i int) string { return fmt.Sprintf("ob|team-%d|service-%d|8080", i%20, i) }

// service makes the listener, route, cluster and endpoints of one Service, about 2 KB together, as sidecars get
// them. It stands alone so that the translator's output can take its place.
func service(i, endpoints, generation int) []named {
	n := name(i)
	return []named{
		{n, cluster(n, i)},
		{n, assignment(n, i, endpoints, generation)},
		{n, listener(n, i)},
		{n, route(n, i)},
	}
}

func cluster(n string, i int) proto.Message {
	return &clusterv3.Cluster{
		Name: n, AltStatName: n, Metadata: provenance(i),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		ConnectTimeout:       durationpb.New(5 * time.Second),
		LbPolicy:             clusterv3.Cluster_LEAST_REQUEST,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(1 << 31), MaxRequests: wrapperspb.UInt32(1 << 31),
			MaxPendingRequests: wrapperspb.UInt32(1 << 31), MaxRetries: wrapperspb.UInt32(1 << 31),
		}}},
	}
}

func assignment(n string, i, endpoints, generation int) proto.Message {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: n}
	for zone := range 2 {
		group := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: "region-1", Zone: fmt.Sprintf("zone-%d", zone)}}
		for e := zone; e < endpoints; e += 2 {
			host := 1 + e
			if e == 0 && generation > 0 { // the endpoint that changes
				host = 100 + generation%150
			}
			group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: address(fmt.Sprintf("10.%d.%d.%d", i/250, i%250, host), 8080),
				}},
				HealthStatus: corev3.HealthStatus_HEALTHY,
				Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
					"envoy.transport_socket_match": {Fields: map[string]*structpb.Value{"hop": structpb.NewStringValue("mesh")}},
				}},
			})
		}
		a.Endpoints = append(a.Endpoints, group)
	}
	return a
}

func listener(n string, i int) proto.Message {
	return &listenerv3.Listener{
		Name: n, Metadata: provenance(i),
		Address:    address(fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250), 8080),
		BindToPort: wrapperspb.Bool(false),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(&hcmv3.HttpConnectionManager{
				StatPrefix:        n,
				StreamIdleTimeout: durationpb.New(0),
				RouteSpecifier:    &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: n, ConfigSource: ads()}},
				HttpFilters: []*hcmv3.HttpFilter{{
					Name:       "envoy.filters.http.router",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
				}},
				UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
			})},
		}}}},
	}
}

func route(n string, i int) proto.Message {
	return &routev3.RouteConfiguration{
		Name: n,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: n, Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Name: n, Metadata: provenance(i),
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: n},
					Timeout:          durationpb.New(0),
					RetryPolicy:      &routev3.RetryPolicy{RetryOn: "connect-failure,refused-stream", NumRetries: wrapperspb.UInt32(2)},
				}},
			}},
		}},
	}
}

func provenance(i int) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"dev.heddle": {Fields: map[string]*structpb.Value{
		"source": structpb.NewStringValue(fmt.Sprintf("Service team-%d/service-%d", i%20, i)),
		"hash":   structpb.NewStringValue(fmt.Sprintf("%016x", i*7919)),
	}}}}
}

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err) // messages made above
	}
	return a
}
