package translator

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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

// receive finds the chain that a connection to a redirected pod gets in the end: a caller that is handed over arrives
// again, at a listener that does not look for HTTP.
func receive(t *testing.T, r Resources, first, then arrival) *listenerv3.FilterChain {
	t.Helper()
	c := pick(r.Listeners[0], first)
	if !strings.Contains(c.GetName(), "|late") {
		return c
	}
	if len(r.Listeners) != 2 || r.Listeners[1].Name != inboundLate || r.Clusters[len(r.Clusters)-1].Name != inboundLate {
		t.Fatalf("%v is handed over, and nobody takes it", first)
	}
	if then.transport == plainTransport {
		then.alpns = nil
	}
	return pick(r.Listeners[1], then)
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
					c := receive(t, Inbound(chainsOf(p, model.MTLSStrict), capture), a, a)
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
		redirected := Inbound(w, Capture{})
		for what, a := range arrivals(8080) {
			if got := pick(bound, a).GetName(); got != wants[what] {
				t.Errorf("%s: %s goes to %q, want %q", p, what, got, wants[what])
			}
			if got := receive(t, redirected, a, a).GetName(); got != "in|8080|"+wants[what] {
				t.Errorf("%s, redirected: %s goes to %q, want %q", p, what, got, wants[what])
			}
		}
		for what, a := range arrivals(9999) {
			want := "in|any|tcp"
			if strings.HasPrefix(what, "the mesh's") {
				want = "in|any|mtls-tcp"
			}
			if got := pick(redirected.Listeners[0], a).GetName(); got != want {
				t.Errorf("%s, a port that nobody declared: %s goes to %q, want %q", p, what, got, want)
			}
		}
	}
}

// Who has said nothing in time looks like one who sends other bytes.
func TestACallerThatIsLateIsTakenForWhatItIsWhereClientsSpeakFirst(t *testing.T) {
	for _, port := range []model.InboundPort{
		{Protocol: model.HTTP, MTLS: model.MTLSPermissive}, {Protocol: model.HTTP2, MTLS: model.MTLSPermissive}, {Protocol: model.GRPC, MTLS: model.MTLSPermissive},
		{Protocol: model.Detect, MTLS: model.MTLSStrict}, {Protocol: model.HTTP, MTLS: model.MTLSStrict}, {Protocol: model.TCP, MTLS: model.MTLSStrict},
	} {
		r := Inbound(chainsOf(port.Protocol, port.MTLS), Capture{})
		for what, a := range arrivals(8080) {
			late := arrival{port: 8080, transport: plainTransport}
			inTime, got := proto.CloneOf(receive(t, r, a, a)), proto.CloneOf(receive(t, r, late, a))
			inTime.FilterChainMatch, got.FilterChainMatch = nil, nil // that leads there
			if !proto.Equal(inTime, got) {
				t.Errorf("%v %v: %s goes to %v, and to %v when it is late", port.MTLS, port.Protocol, what, inTime, got)
			}
		}
	}
}

func TestOnlyWhoNeedNotProveAnythingMaySayNothingForEver(t *testing.T) {
	for m, want := range map[model.MTLS]time.Duration{model.MTLSPermissive: 0, model.MTLSStrict: handshakeTimeout} {
		port := map[model.MTLS]model.Protocol{model.MTLSPermissive: model.HTTP, model.MTLSStrict: model.Detect}[m]
		l := Inbound(chainsOf(port, m), Capture{}).Listeners[1]
		if got := l.ListenerFiltersTimeout.AsDuration(); got != want || l.ContinueOnListenerFiltersTimeout {
			t.Errorf("%v: the listener for late callers waits for %s, and goes on without: %t", m, got, l.ContinueOnListenerFiltersTimeout)
		}
	}
}

func TestEveryChainOfAListenerHasANameOfItsOwn(t *testing.T) {
	for _, m := range []model.MTLS{model.MTLSPermissive, model.MTLSStrict} {
		for _, p := range []model.Protocol{model.Detect, model.HTTP} {
			for _, l := range Inbound(chainsOf(p, m), Capture{}).Listeners {
				seen := map[string]bool{}
				for _, c := range append(l.FilterChains, l.DefaultFilterChain) {
					if seen[c.GetName()] {
						t.Errorf("%v %v, %s: two chains %s", m, p, l.Name, c.GetName())
					}
					seen[c.GetName()] = true
				}
			}
		}
	}
}
