package translator_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
)

func ptr[T any](v T) *T { return &v }

func everything() *model.Outbound {
	o := everythingBut()
	for i := range o.Ports {
		o.Ports[i].Routes = allRoutes()
	}
	return o
}

func allRoutes() []model.Route {
	k := model.Key{"shop", "catalog"}
	grpc := uint32(14)
	return []model.Route{
		{Name: "a", Matches: []model.Match{{Path: &model.PathMatch{Prefix: "/v2"}, Methods: []string{"GET", "PUT"}, Headers: []model.ValueMatch{{"x-canary", model.ValueExact, "1"}, {"x-no", model.ValueAbsent, ""}, {"x-re", model.ValueRegex, "a+"}}, Query: []model.ValueMatch{{"q", model.ValueAbsent, ""}},
			From: []model.Caller{{Namespace: "shop", Account: "x", Labels: model.Labels{{"app", "y"}}}, {Namespace: "b"}}}},
			To: []model.Target{{Service: k, Weight: 90}, {Service: model.Key{"shop", "nope"}, Weight: 10, Missing: "no such Service"}}, Mirror: []model.Mirror{{model.Target{Service: k, Subset: model.Labels{{"version", "v1"}}}, 10}},
			Rewrite: &model.Rewrite{Prefix: ptr("/"), Host: "x"}, RequestHeaders: model.HeaderChange{Set: []model.Header{{"a", "50%"}}, Add: []model.Header{{"b", "c"}}, Remove: []string{"d"}},
			Fault: &model.Fault{Delay: &model.Delay{time.Second, 0.5}, Abort: &model.Abort{GRPC: &grpc, Percent: 1}, Header: "x-fault"},
			CORS:  &model.CORS{Origins: []model.OriginMatch{{Exact: "*"}}, Methods: []string{"GET"}, MaxAge: time.Hour}},
		{Name: "b", Matches: []model.Match{{Path: &model.PathMatch{Exact: "/old"}}}, Redirect: &model.Redirect{Path: "/new", Status: 308}},
		{Name: "c", Matches: []model.Match{{Path: &model.PathMatch{Regex: "/x[0-9]+"}}}, Direct: &model.DirectResponse{418, "no"}},
		{Name: "d", Matches: []model.Match{{Path: &model.PathMatch{Exact: "/p"}}}, Rewrite: &model.Rewrite{Path: "/q"}},
	}
}

func everythingBut() *model.Outbound {
	k := model.Key{"shop", "catalog"}
	return &model.Outbound{
		Service:  &model.Service{Key: k, Addresses: []netip.Addr{netip.MustParseAddr("10.96.1.2"), netip.MustParseAddr("fd00::12")}},
		Settings: &model.Settings{DetectionTimeout: 100 * time.Millisecond, ClusterDomain: "cluster.local"},
		Ports: []model.OutboundPort{
			{Port: model.Port{Number: 80, Protocol: model.HTTP}, Hop: model.HopMesh, Addresses: []netip.Addr{netip.MustParseAddr("10.96.1.2"), netip.MustParseAddr("fd00::12")}},
			{Port: model.Port{Number: 81, Protocol: model.Detect}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.1.2")}},
			{Port: model.Port{Number: 82, Protocol: model.TCP}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.1.2")}},
			{Port: model.Port{Number: 83, Protocol: model.GRPC}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.1.2")}},
		},
		Subsets:   []model.Labels{{{"version", "v1"}}},
		Instances: []model.Instance{{Port: 80, Address: netip.MustParseAddrPort("10.1.1.1:8080"), Meshed: true}},
		Traffic: &model.Traffic{
			Timeout: time.Second, Retries: &model.Retries{Attempts: 2, On: []model.Condition{"connect-failure", "reset", "5xx", "unavailable"}, Statuses: []uint32{503}, Methods: []string{"GET"}, BackOffBase: 25 * time.Millisecond, BackOffMax: 250 * time.Millisecond},
			Budget: &model.RetryBudget{20, 3}, CircuitBreaker: model.CircuitBreaker{MaxConnectionsPerEndpoint: 4},
			Outlier:      &model.OutlierDetection{ConsecutiveLocalOrigin: 3, Interval: time.Second, BaseEjection: time.Second, MaxEjection: 5 * time.Second, MaxEjectionPercent: 50},
			LoadBalancer: model.LoadBalancer{Policy: model.RingHash, HashOn: []model.HashOn{{Header: "x-a"}, {Cookie: "c", CookieTTL: time.Minute}, {Query: "q"}, {SourceIP: true, Terminal: true}}},
			Connection:   model.Connection{ConnectTimeout: time.Second, Keepalive: &model.Keepalive{3, time.Minute, time.Second}, MaxRequests: 1000},
		},
	}
}

func workload() *model.Workload {
	return &model.Workload{
		Pod:      &model.Pod{Key: model.Key{"shop", "web-1"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.9.1")}},
		Settings: &model.Settings{DetectionTimeout: 100 * time.Millisecond},
		Ports: []model.InboundPort{
			{Number: 8080, Protocol: model.HTTP, Streak: 5, Limits: []model.RouteLimit{{Service: model.Key{"shop", "web"}, Route: "r", Limit: model.RateLimit{Requests: 5, Per: time.Second, Burst: 5}, Matches: []model.Match{{Path: &model.PathMatch{Prefix: "/v2"}}}}}},
			{Number: 8081, Protocol: model.Detect}, {Number: 8082, Protocol: model.TCP}, {Number: 8083, Protocol: model.GRPC},
		},
	}
}

func TestTheRealEnvoyAcceptsEveryFeature(t *testing.T) {
	bound := translator.Capture{Bind: netip.MustParsePrefix("127.65.0.0/16"), App: netip.MustParseAddr("127.0.9.2")}
	for name, capture := range map[string]translator.Capture{"redirected": {}, "bound": bound} {
		t.Run(name, func(t *testing.T) {
			out, in := translator.Outbound(everything(), capture), translator.Inbound(workload(), capture)
			frame := translator.Frame(everything().Settings, capture)
			accept(t, out, in, frame)
		})
	}
}

// accept gives resources to the real Envoy in validation mode.
func accept(t *testing.T, all ...translator.Resources) {
	t.Helper()
	b := &bootstrapv3.Bootstrap{
		Node:             &corev3.Node{Id: "x", Cluster: "x"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3, GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "xds"}}}}}},
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{Name: "xds", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}}}},
	}
	s := b.StaticResources
	for _, r := range all {
		s.Listeners = append(s.Listeners, r.Listeners...)
		s.Clusters = append(s.Clusters, r.Clusters...)
		for _, rc := range r.Routes {
			hcm := &hcmv3.HttpConnectionManager{StatPrefix: "x", RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc}, HttpFilters: []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})}}}}
			no := false
			_ = no
			s.Listeners = append(s.Listeners, &listenerv3.Listener{Name: "routes " + rc.Name + rc.VirtualHosts[0].Name, Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{}}}},
				FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, hcm)}}}}}})
		}
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.json")
	os.WriteFile(file, text, 0o600)
	got, err := exec.Command(os.Getenv("HEDDLE_ENVOY"), "--mode", "validate", "-c", file, "-l", "warn").CombinedOutput()
	t.Logf("%s", got)
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
