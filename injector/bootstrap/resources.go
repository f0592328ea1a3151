package bootstrap

import (
	"math"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// dynamicResources asks for clusters and listeners by delta ADS. A timeout of 0 waits for the first answer: with
// Envoy's 15 s a sidecar whose control plane is late would report ready with no configuration and refuse traffic.
func dynamicResources() *bootstrapv3.Bootstrap_DynamicResources {
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
	return &bootstrapv3.Bootstrap_DynamicResources{
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			GrpcServices:              []*corev3.GrpcService{adsService()},
			SetNodeOnFirstMessageOnly: true,
		},
		CdsConfig: ads,
		LdsConfig: proto.CloneOf(ads),
	}
}

// adsService takes up ADS again within seconds, however long the control plane was away: Envoy's own 30 s are as long
// as changes would have no effect.
func adsService() *corev3.GrpcService {
	s := controlPlaneService()
	s.GetEnvoyGrpc().RetryPolicy = within(5 * time.Second)
	return s
}

// within takes up a stream again, at the latest after limit.
func within(limit time.Duration) *corev3.RetryPolicy {
	return &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
		BaseInterval: durationpb.New(limit / 10),
		MaxInterval:  durationpb.New(limit),
	}}
}

func controlPlaneService() *corev3.GrpcService {
	return &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ControlPlane},
	}}
}

// http2 is HTTP/2 with prior knowledge, and pings, so that a control plane that hangs is noticed.
func http2() *httpv3.HttpProtocolOptions {
	return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
					ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: durationpb.New(30 * time.Second),
						Timeout:  durationpb.New(10 * time.Second),
					},
				},
			},
		},
	}}
}

// layeredRuntime lifts Envoy's limit of 100 on the size of a compiled regular expression. Policies are checked
// before they are translated; without this, Envoy would refuse what validation has accepted.
func layeredRuntime() *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "heddle",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{
			Fields: map[string]*structpb.Value{
				"re2.max_program_size.error_level": structpb.NewNumberValue(math.MaxUint32),
			},
		}},
	}, {
		// What somebody who may open the admin socket sets for this one Envoy, until it ends.
		Name:           "admin",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}},
	}}}
}

// overloadManager states that the number of connections is not limited here: without policy the mesh adds no limit,
// and the process's limit on file descriptors holds anyway. Envoy warns at each start where nothing is stated.
func overloadManager() *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: mustAny(
			&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: math.MaxInt32},
		)},
	}}}
}

// mustAny packs a message of ours. It can only fail for a message that is not valid UTF-8, and these are constants.
func mustAny(m proto.Message) *anypb.Any {
	var a anypb.Any
	if err := anypb.MarshalFrom(&a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return &a
}
