package translator

import (
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// What a caller's sidecar offers as ALPN (RFC 7301) tells the server's that this is the mesh's own TLS and not an
// application's, and which of a port's chains it is for. The server selects none: then Envoy finds out by the first
// bytes whether HTTP/1.1 or HTTP/2 follows, as it does without TLS. Under a selected protocol that it does not know it
// would take HTTP/1.1 for granted.
const (
	alpnHTTP = "heddle-http"
	alpnTCP  = "heddle-tcp"
)

// socketMatch is where an endpoint says in its metadata how it is reached, under matchField: the account that its
// certificate must be of, or plainEndpoint, which cannot be an account since it has no slash.
const (
	socketMatch   = "envoy.transport_socket_match"
	matchField    = "heddle"
	plainEndpoint = "none"
)

// secretsCluster is the bootstrap's cluster for the agent beside the sidecar.
const secretsCluster = "sds"

// spiffeID is the identity of a service account's pods.
func spiffeID(s *model.Settings, account model.Key) string {
	return trustDomainPrefix(s) + account.Namespace + "/sa/" + account.Name
}

// trustDomainPrefix is how the identity of every workload begins.
func trustDomainPrefix(s *model.Settings) string { return "spiffe://" + s.TrustDomain + "/ns/" }

func uri(m *matcherv3.StringMatcher) *tlsv3.SubjectAltNameMatcher {
	return &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: m}
}

// secure gives a cluster one way to each kind of endpoint: mutual TLS with the exact identity of the endpoint's own
// account, or plain text where the endpoint has no sidecar. An endpoint that says neither, or names an account that the
// cluster does not know yet, cannot be reached at all.
func secure(c *clusterv3.Cluster, o *model.Outbound, alpn string) {
	for _, account := range o.Accounts {
		c.TransportSocketMatches = append(c.TransportSocketMatches,
			socketFor(account.String(), clientTLS(o.Settings, account, alpn)))
	}
	c.TransportSocketMatches = append(c.TransportSocketMatches, socketFor(plainEndpoint, plainText()))
	c.TransportSocket = toNobody(alpn)
}

func socketFor(endpoint string, socket *corev3.TransportSocket) *clusterv3.Cluster_TransportSocketMatch {
	return &clusterv3.Cluster_TransportSocketMatch{Name: endpoint, Match: matchStruct(endpoint), TransportSocket: socket}
}

func matchStruct(endpoint string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{matchField: structpb.NewStringValue(endpoint)}}
}

// ways are how endpoints are reached, as their metadata, by account. Those of one account share it.
//
// It stands at each endpoint and not once at their locality, where Envoy would look as well: Envoy 1.40 goes on with the
// old way for endpoints that it knows when only their locality's metadata changes (tried).
type ways map[way]*corev3.Metadata

type way struct {
	meshed  bool // false: in plain text
	account string
}

func (w ways) to(service model.Key, e *model.Endpoint) *corev3.Metadata {
	key := way{e.Meshed, e.Account}
	m := w[key]
	if m == nil {
		m = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{socketMatch: matchStruct(socketName(service, e))}}
		w[key] = m
	}
	return m
}

// socketName says which of its cluster's transport sockets an endpoint is reached with.
func socketName(service model.Key, e *model.Endpoint) string {
	if e.Meshed {
		return model.Key{Namespace: service.Namespace, Name: e.Account}.String()
	}
	return plainEndpoint
}

// clusterALPN is what a port's cluster offers; the TCP chain of a port that is detected offers alpnTCP instead.
func clusterALPN(p model.OutboundPort) string {
	if p.Protocol == model.TCP {
		return alpnTCP
	}
	return alpnHTTP
}

// clientTLS proves this sidecar's identity to an endpoint of exactly one account. There is no SNI: nobody needs it, and
// it would tell everybody on the way which Service is called.
func clientTLS(s *model.Settings, account model.Key, alpn string) *corev3.TransportSocket {
	common := mutualTLS(uri(exact(spiffeID(s, account))))
	common.AlpnProtocols = []string{alpn}
	return tlsSocket(typed(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: common,
		MaxSessionKeys:   wrapperspb.UInt32(0), // a resumed session would skip the check of who answers
	}))
}

// serverTLS takes callers that prove one of the given identities.
func serverTLS(callers ...*tlsv3.SubjectAltNameMatcher) *corev3.TransportSocket {
	return tlsSocket(typed(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         mutualTLS(callers...),
		RequireClientCertificate: yes(),
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
			DisableStatelessSessionResumption: true,
		},
		DisableStatefulSessionResumption: true,
	}))
}

// mutualTLS is what both sides have in common: TLS 1.3, their own certificate, and a peer whose certificate comes from
// the trust bundle and names one of these.
func mutualTLS(peers ...*tlsv3.SubjectAltNameMatcher) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsParams:                      onlyTLS13(),
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "default", SdsConfig: secrets()}},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: peers},
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: "bundle", SdsConfig: secrets()},
			},
		},
	}
}

// onlyTLS13 is stated in full, as Envoy's clients stop at TLS 1.2 by default.
func onlyTLS13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

// secrets is the agent beside the sidecar, without a time limit: what needs a secret waits for it. It is the bootstrap's
// SecretSource, byte for byte, since Envoy keeps a subscription for each that differs.
func secrets() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: secretsCluster,
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: duration(100 * time.Millisecond), MaxInterval: duration(time.Second),
					}},
				},
			}}},
			SetNodeOnFirstMessageOnly: true,
		}},
		InitialFetchTimeout: duration(0),
	}
}

func tlsSocket(config *anypb.Any) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
}

func plainText() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(&rawv3.RawBuffer{})},
	}
}

// toNobody is TLS with a peer whose certificate has a hash that none has. It offers the mesh's ALPN lest a permissive
// port takes it for an application's own TLS and lets that answer.
func toNobody(alpn string) *corev3.TransportSocket {
	return tlsSocket(typed(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:     onlyTLS13(),
		AlpnProtocols: []string{alpn},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			VerifyCertificateHash: []string{strings.Repeat("00", 32)},
		}},
	}}))
}
