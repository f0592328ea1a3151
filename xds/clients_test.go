package xds

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	sotwclient "github.com/envoyproxy/go-control-plane/pkg/client/sotw/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestProxylessClientsBalanceAndFollowChanges(t *testing.T) {
	first, second, third := backend(t), backend(t), backend(t)
	store := NewStore()
	greeter := func(m proto.Message, opts ...Option) *Resource {
		r, err := NewResource("greeter", m, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	store.Publish(Update{Layer: "mesh", Set: []*Resource{
		greeter(apiListener(t), OnRequest), greeter(apiRoute()), greeter(apiCluster()), greeter(endpointsAt(t, first, second)),
	}})
	store.MarkSynced()
	conn := dialThroughADS(t, store)
	wantAnswers(t, conn, first, second)

	store.Publish(Update{Layer: "mesh", Set: []*Resource{greeter(endpointsAt(t, third))}})

	wantAnswers(t, conn, third)
}

// The client of go-control-plane keeps a subscription of its own, and answers as it is told to.
func TestTheClientOfGoControlPlaneIsServed(t *testing.T) {
	store := NewStore()
	publish := func(versions ...string) {
		u := Update{Layer: "mesh"}
		for _, v := range versions {
			name, label, _ := strings.Cut(v, "@")
			r, err := NewResource(name, sample(Cluster, name, label))
			if err != nil {
				t.Fatal(err)
			}
			u.Set = append(u.Set, r)
		}
		store.Publish(u)
	}
	publish("a@1", "b@1")
	store.MarkSynced()
	client := sotwclient.NewADSClient(t.Context(), &corev3.Node{Id: "shop/client-1"}, Cluster.URL())
	if err := client.InitConnect(dialTo(t, "unix:"+serveADS(t, store))); err != nil {
		t.Fatal(err)
	}
	fetch := func(want ...string) {
		t.Helper()
		response, err := client.Fetch()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, packed := range response.Resources {
			m := &clusterv3.Cluster{}
			if err := packed.UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m.GetName()+"@"+m.GetMetadata().GetTypedFilterMetadata()["label"].GetTypeUrl())
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("fetched (-want +got):\n%s", diff)
		}
	}
	answer := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fetch("a@1", "b@1")
	answer(client.Ack())
	publish("a@2")
	fetch("a@2", "b@1")
	answer(client.Nack("Error adding/updating cluster(s) a: bad"))
	fetch("a@1", "b@1")
	answer(client.Ack())
	publish("a@3", "c@1")
	fetch("a@3", "b@1", "c@1")
	answer(client.Ack())
}

// backend runs a gRPC server and gives its address.
func backend(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	serveUntilTheEnd(t, s, listener)
	return listener.Addr().String()
}

func serveUntilTheEnd(t *testing.T, s *grpc.Server, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// dialThroughADS connects to the greeter with grpc-go's own xDS client.
func dialThroughADS(t *testing.T, store *Store) *grpc.ClientConn {
	t.Helper()
	resolver, err := grpcxds.NewXDSResolverWithConfigForTesting(fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": "unix:%s", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"node": {"id": "shop/client-1"}
	}`, serveADS(t, store)))
	if err != nil {
		t.Fatal(err)
	}
	return dialTo(t, "xds:///greeter", grpc.WithResolvers(resolver))
}

func dialTo(t *testing.T, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// serveADS serves a store on a unix socket and gives its path.
func serveADS(t *testing.T, store *Store) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "xds.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(context.Context, *corev3.Node) (Session, error) { return Session{Layers: []Layer{"mesh"}}, nil }
	s := grpc.NewServer(ServerOptions()...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, NewServer(Options{Store: store, Connect: connect}))
	serveUntilTheEnd(t, s, listener)
	return socket
}

// wantAnswers calls until all of these backends answer, and no other.
func wantAnswers(t *testing.T, conn *grpc.ClientConn, want ...string) {
	t.Helper()
	slices.Sort(want)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		answered := map[string]bool{}
		for range 20 {
			var who peer.Peer
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true), grpc.Peer(&who))
			if err != nil {
				t.Fatalf("calling through xds:///greeter: %v", err)
			}
			answered[who.Addr.String()] = true
		}
		got := slices.Sorted(maps.Keys(answered))
		if slices.Equal(got, want) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("backends that answer (-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}

func apiListener(t *testing.T) *listenerv3.Listener {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return &listenerv3.Listener{Name: "greeter", ApiListener: &listenerv3.ApiListener{ApiListener: pack(&hcmv3.HttpConnectionManager{
		StatPrefix:     "greeter",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: "greeter", ConfigSource: ads()}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
		}},
	})}}
}

func apiRoute() *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: "greeter", VirtualHosts: []*routev3.VirtualHost{{
		Name: "greeter", Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "greeter"}}},
		}},
	}}}
}

func apiCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 "greeter",
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
	}
}

func endpointsAt(t *testing.T, addresses ...string) *endpointv3.ClusterLoadAssignment {
	t.Helper()
	group := &endpointv3.LocalityLbEndpoints{
		Locality: &corev3.Locality{Region: "here"}, LoadBalancingWeight: wrapperspb.UInt32(1), // gRPC wants both (gRFC A27)
	}
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
				}}},
			}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: "greeter", Endpoints: []*endpointv3.LocalityLbEndpoints{group}}
}
