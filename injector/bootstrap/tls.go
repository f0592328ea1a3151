package bootstrap

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names of the secrets, the same for every sidecar, so that resources that refer to them can be shared.
const (
	CertificateSecret = "default" // this sidecar's certificate and key
	BundleSecret      = "bundle"  // the validation context: who may sign a peer's certificate
)

// SecretSource is where Envoy asks for both secrets, by SotW gRPC. Without a time limit: what needs a secret waits
// until it is there. With Envoy's 15 s a late agent would leave it unusable but in use. Every reference must be equal
// to this one, byte for byte: Envoy keeps one subscription for each that differs.
func SecretSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: Secrets, RetryPolicy: within(time.Second)},
			}}},
			SetNodeOnFirstMessageOnly: true,
		}},
		InitialFetchTimeout: durationpb.New(0),
	}
}

// controlPlaneTLS is mutual TLS 1.3 with a peer that has exactly this ID. Versions are stated, as Envoy's clients stop
// at 1.2. Sessions are not resumed: a resumed one would not check the peer against the current bundle.
func controlPlaneTLS(id string) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: mustAny(&tlsv3.UpstreamTlsContext{
			MaxSessionKeys: wrapperspb.UInt32(0),
			CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams: &tlsv3.TlsParameters{
					TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
					TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				},
				AlpnProtocols: []string{"h2"}, // grpc-go refuses a client without it
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{
					{Name: CertificateSecret, SdsConfig: SecretSource()},
				},
				ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
					CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
						DefaultValidationContext: &tlsv3.CertificateValidationContext{
							MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
								SanType: tlsv3.SubjectAltNameMatcher_URI,
								Matcher: &matcherv3.StringMatcher{
									MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id},
								},
							}},
						},
						ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{
							Name: BundleSecret, SdsConfig: SecretSource(),
						},
					},
				},
			},
		})},
	}
}
