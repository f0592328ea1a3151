package translator_test

import (
	"math"
	"net/netip"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/translator"
)

// envoyAccepts gives resources to the real Envoy in its validation mode.
func envoyAccepts(t *testing.T, s *served) {
	t.Helper()
	text, err := bootstrap.YAML(&bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "golden/test", Cluster: "golden"},
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
				"re2.max_program_size.error_level": structpb.NewNumberValue(math.MaxUint32), // as in a sidecar's bootstrap
			}}},
		}}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: adsConfig()},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: s.listeners,
			Clusters:  append([]*clusterv3.Cluster{{Name: bootstrap.ControlPlane}, {Name: bootstrap.Secrets}}, s.clusters...),
		},
	})
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

// captures are both ways in which traffic gets to a sidecar.
func captures() []translator.Capture {
	return []translator.Capture{{}, {Bind: netip.MustParsePrefix("127.65.0.0/16"), App: netip.MustParseAddr("127.66.0.1")}}
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
	var all served
	for _, capture := range captures() {
		all.add("pod", translator.Inbound(w, capture))
	}
	envoyAccepts(t, &all)
}

func adsConfig() *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: bootstrap.ControlPlane},
		}}},
	}
}
