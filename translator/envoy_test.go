package translator_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/translator"
)

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// captures are both ways in which traffic gets to a sidecar.
func captures() []translator.Capture {
	return []translator.Capture{{}, {Bind: netip.MustParsePrefix("127.65.0.0/16"), App: netip.MustParseAddr("127.66.0.1")}}
}

// everythingIn translates all that a state holds.
func everythingIn(s *mesh.State, capture translator.Capture) translator.Resources {
	out := translator.Frame(s.Settings(), capture)
	add := func(r translator.Resources) {
		out.Listeners = append(out.Listeners, r.Listeners...)
		out.Routes = append(out.Routes, r.Routes...)
		out.Clusters = append(out.Clusters, r.Clusters...)
		out.Endpoints = append(out.Endpoints, r.Endpoints...)
	}
	for _, k := range s.Services() {
		if o := s.Outbound(mesh.View{Key: k}); o != nil {
			add(translator.Outbound(o, capture))
		}
		if e := s.Endpoints(k); e != nil {
			add(translator.Resources{Endpoints: translator.Endpoints(e, model.Location{})})
		}
	}
	for _, k := range s.Pods() {
		add(translator.Inbound(s.Workload(k), capture))
		break // one sidecar receives for one pod
	}
	return out
}

// envoyAccepts gives resources to the real Envoy in its validation mode: routes inside a listener each, endpoints
// inside a cluster each.
func envoyAccepts(t *testing.T, r translator.Resources) {
	t.Helper()
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "golden/test", Cluster: "golden"},
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
				"re2.max_program_size.error_level": structpb.NewNumberValue(math.MaxUint32), // as in a sidecar's bootstrap
			}}},
		}}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: adsConfig()},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: r.Listeners,
			Clusters:  append([]*clusterv3.Cluster{{Name: bootstrap.ControlPlane}, {Name: bootstrap.Secrets}}, r.Clusters...),
		},
	}
	for i, rc := range r.Routes {
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, routesInside(t, i, rc))
	}
	for i, e := range r.Endpoints {
		e := proto.CloneOf(e)
		name := fmt.Sprintf("endpoints %d", i)
		e.ClusterName = name
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, &clusterv3.Cluster{Name: name, LoadAssignment: e})
	}
	text, err := bootstrap.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := envoy.Validate(t.Context(), binary, text); err != nil {
		t.Error(err)
	}
}

func TestEnvoyTakesStrictPortsOfEveryProtocol(t *testing.T) {
	w := &model.Workload{
		Pod:        &model.Pod{Key: model.Key{Namespace: "shop", Name: "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}},
		Undeclared: model.InboundPort{MTLS: model.MTLSStrict},
		Settings:   &model.Settings{TrustDomain: "cluster.local"},
	}
	for i, p := range []model.Protocol{model.Detect, model.TCP, model.HTTP, model.HTTP2, model.GRPC} {
		w.Ports = append(w.Ports, model.InboundPort{Number: uint16(8080 + i), Protocol: p, MTLS: model.MTLSStrict})
	}
	for _, capture := range captures() {
		envoyAccepts(t, translator.Inbound(w, capture))
	}
}

func adsConfig() *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: bootstrap.ControlPlane},
		}}},
	}
}

func routesInside(t *testing.T, i int, rc *routev3.RouteConfiguration) *listenerv3.Listener {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix:     "golden",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})},
		}},
	}
	return &listenerv3.Listener{
		Name: fmt.Sprintf("routes %d", i),
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(40000 + i)},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, manager)},
		}}}},
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
