package translator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/model"
)

func TestSecretsComeFromTheSubscriptionThatTheBootstrapMakes(t *testing.T) {
	if !proto.Equal(secrets(), bootstrap.SecretSource()) {
		t.Errorf("%v differs from the bootstrap's %v", secrets(), bootstrap.SecretSource())
	}
	common := mutualTLS()
	certificate := common.TlsCertificateSdsSecretConfigs[0].Name
	bundle := common.GetCombinedValidationContext().ValidationContextSdsSecretConfig.Name
	if certificate != bootstrap.CertificateSecret || bundle != bootstrap.BundleSecret || bootstrap.Secrets != secretsCluster {
		t.Errorf("secrets %s and %s from %s", certificate, bundle, secretsCluster)
	}
}

// arrival is what Envoy knows of a connection when it picks a chain.
type arrival struct {
	port      uint32
	transport string // tls or raw_buffer
	alpns     []string
}

// pick finds a chain as Envoy does: by port, then transport, then ALPN, each time by what matches exactly before what
// says nothing, and never back.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch
func pick(l *listenerv3.Listener, a arrival) *listenerv3.FilterChain {
	left := narrow(l.FilterChains,
		func(m *listenerv3.FilterChainMatch) bool { return m.GetDestinationPort().GetValue() == a.port },
		func(m *listenerv3.FilterChainMatch) bool { return m.GetDestinationPort() == nil })
	left = narrow(left,
		func(m *listenerv3.FilterChainMatch) bool { return m.GetTransportProtocol() == a.transport },
		func(m *listenerv3.FilterChainMatch) bool { return m.GetTransportProtocol() == "" })
	left = narrow(left,
		func(m *listenerv3.FilterChainMatch) bool {
			return slices.ContainsFunc(a.alpns, func(p string) bool { return slices.Contains(m.GetApplicationProtocols(), p) })
		},
		func(m *listenerv3.FilterChainMatch) bool { return len(m.GetApplicationProtocols()) == 0 })
	if len(left) == 0 {
		return l.DefaultFilterChain
	}
	return left[0]
}

func narrow(all []*listenerv3.FilterChain, exact, any func(*listenerv3.FilterChainMatch) bool) []*listenerv3.FilterChain {
	for _, fits := range []func(*listenerv3.FilterChainMatch) bool{exact, any} {
		var found []*listenerv3.FilterChain
		for _, c := range all {
			if fits(c.FilterChainMatch) {
				found = append(found, c)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// arrivals are connections of every kind, by what they are.
func arrivals(port uint32) map[string]arrival {
	return map[string]arrival{
		"the mesh's HTTP":        {port, "tls", []string{alpnHTTP}},
		"the mesh's TCP":         {port, "tls", []string{alpnTCP}},
		"TLS of HTTP/1.1":        {port, "tls", []string{"http/1.1"}},
		"TLS of HTTP/2":          {port, "tls", []string{"h2", "http/1.1"}},
		"TLS without ALPN":       {port, "tls", nil},
		"HTTP/1.1 in plain text": {port, "raw_buffer", []string{"http/1.1"}},
		"HTTP/2 in plain text":   {port, "raw_buffer", []string{"h2c"}},
		"other bytes":            {port, "raw_buffer", nil},
	}
}

func chainsOf(p model.Protocol, m model.MTLS) *model.Workload {
	return &model.Workload{
		Pod:        &model.Pod{Key: model.Key{Namespace: "shop", Name: "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}},
		Ports:      []model.InboundPort{{Number: 8080, Protocol: p, MTLS: m}},
		Undeclared: model.InboundPort{MTLS: m},
		Settings:   &model.Settings{TrustDomain: "cluster.local"},
	}
}

func TestNothingButMutualTLSReachesAStrictPort(t *testing.T) {
	for _, p := range []model.Protocol{model.Detect, model.TCP, model.HTTP, model.HTTP2, model.GRPC} {
		for _, capture := range []Capture{{}, {Bind: netip.MustParsePrefix("127.65.0.0/16"), App: netip.MustParseAddr("127.66.0.1")}} {
			ports := []uint32{8080}
			if capture.Redirected() {
				ports = append(ports, 9999) // which nobody declared
			}
			for _, port := range ports {
				for what, a := range arrivals(port) {
					l := Inbound(chainsOf(p, model.MTLSStrict), capture).Listeners[0]
					c := pick(l, a)
					var got tlsv3.DownstreamTlsContext
					if c.GetTransportSocket() == nil || c.TransportSocket.GetTypedConfig().UnmarshalTo(&got) != nil || !got.RequireClientCertificate.GetValue() {
						t.Errorf("port %d, %s: %s goes to chain %q", port, p, what, c.GetName())
					}
				}
			}
		}
	}
}

func TestAPermissivePortHasAChainForWhateverArrives(t *testing.T) {
	opaque := func(name string) map[string]string {
		return map[string]string{
			"the mesh's HTTP": "mtls-" + name, "the mesh's TCP": "mtls-" + name,
			"TLS of HTTP/1.1": name, "TLS of HTTP/2": name, "TLS without ALPN": name,
			"HTTP/1.1 in plain text": name, "HTTP/2 in plain text": name, "other bytes": name,
		}
	}
	detected := map[string]string{
		"the mesh's HTTP": "mtls-http", "the mesh's TCP": "mtls-tcp",
		"TLS of HTTP/1.1": "tls", "TLS of HTTP/2": "tls", "TLS without ALPN": "tls",
		"HTTP/1.1 in plain text": "http", "HTTP/2 in plain text": "http", "other bytes": "tcp",
	}
	for p, wants := range map[model.Protocol]map[string]string{
		model.TCP: opaque("tcp"), model.HTTP: opaque("http"), model.GRPC: opaque("http"), model.Detect: detected,
	} {
		w := chainsOf(p, model.MTLSPermissive)
		bound := Inbound(w, Capture{Bind: netip.MustParsePrefix("127.65.0.0/16"), App: netip.MustParseAddr("127.66.0.1")}).Listeners[0]
		redirected := Inbound(w, Capture{}).Listeners[0]
		for what, a := range arrivals(8080) {
			if got := pick(bound, a).GetName(); got != wants[what] {
				t.Errorf("%s: %s goes to %q, want %q", p, what, got, wants[what])
			}
			if got := pick(redirected, a).GetName(); got != "in|8080|"+wants[what] {
				t.Errorf("%s, redirected: %s goes to %q, want %q", p, what, got, wants[what])
			}
		}
		for what, a := range arrivals(9999) {
			want := "in|any|tcp"
			if strings.HasPrefix(what, "the mesh's") {
				want = "in|any|mtls-tcp"
			}
			if got := pick(redirected, a).GetName(); got != want {
				t.Errorf("%s, a port that nobody declared: %s goes to %q, want %q", p, what, got, want)
			}
		}
	}
}

func TestEveryChainOfAListenerHasANameOfItsOwn(t *testing.T) {
	for _, m := range []model.MTLS{model.MTLSPermissive, model.MTLSStrict} {
		l := Inbound(chainsOf(model.Detect, m), Capture{}).Listeners[0]
		seen := map[string]bool{}
		for _, c := range append(l.FilterChains, l.DefaultFilterChain) {
			if seen[c.Name] {
				t.Errorf("%s: two chains %s", fmt.Sprint(m), c.Name)
			}
			seen[c.Name] = true
		}
	}
}
