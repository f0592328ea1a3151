package observe_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
)

// The caller's side of a mesh, by hand: one Service in two subsets, with retries and a time-out, as the translator
// names them.
const listener = `
name: ob|shop|catalog|80
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: ob|shop|catalog|80
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      route_config:
        name: ob|shop|catalog|80
        virtual_hosts:
        - name: shop/catalog
          domains: ["*"]
          routes:
          - name: canary
            stat_prefix: canary
            match: {prefix: /canary}
            route: {cluster: "ob|shop|catalog|80|version=v2"}
          - name: default
            stat_prefix: default
            match: {prefix: /}
            route:
              cluster: ob|shop|catalog|80|version=v1
              timeout: 0.25s
              retry_policy: {retry_on: 5xx, num_retries: 1}
`

// ask makes requests through the sidecar and counts the statuses.
func ask(t *testing.T, base, path string, times int) map[int]int {
	t.Helper()
	got := map[int]int{}
	for range times {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		got[res.StatusCode]++
	}
	return got
}

func TestWhatARealEnvoyPushesBecomesTheSignalsOfWhatItsCallersMet(t *testing.T) {
	var flaky atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/flaky":
			if flaky.Add(1)%2 == 1 { // the retry of each succeeds
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}
	}))
	defer app.Close()
	observer := observe.New(observe.Options{Slot: time.Second})
	base, stop := sidecar(t, observer, app.Listener.Addr().(*net.TCPAddr).Port)

	ask(t, base, "/", 40)
	ask(t, base, "/canary", 10)
	ask(t, base, "/flaky", 3)
	if got := ask(t, base, "/slow", 2); got[http.StatusGatewayTimeout] != 2 {
		t.Fatalf("slow answers: %v", got)
	}
	v := pushed(t, observer, 55)
	stop()

	catalog := model.Key{Namespace: "shop", Name: "catalog"}
	ofLatency := cmpopts.IgnoreFields(observe.Sample{}, "Latency")
	ofConnections := cmpopts.IgnoreFields(observe.Sample{}, "Connections")
	want := observe.View{
		Edges: []observe.Edge{{Source: "shop/web-1", Service: catalog, Port: 80,
			Sample: observe.Sample{Classes: [6]uint64{2: 53, 5: 2}}}},
		Targets: []observe.Target{
			{Source: "shop/web-1", Service: catalog, Port: 80, Subset: "version=v1", State: observe.State{Members: 1, Healthy: 1},
				Sample: observe.Sample{Classes: [6]uint64{2: 43, 5: 2}, Timeouts: 2, Retries: 3, Rescued: 3}},
			{Source: "shop/web-1", Service: catalog, Port: 80, Subset: "version=v2", State: observe.State{Members: 1, Healthy: 1},
				Sample: observe.Sample{Classes: [6]uint64{2: 10}}},
		},
		Routes: []observe.Route{
			{Source: "shop/web-1", Service: catalog, Route: "canary", Sample: observe.Sample{Classes: [6]uint64{2: 10}}},
			{Source: "shop/web-1", Service: catalog, Route: "default",
				Sample: observe.Sample{Classes: [6]uint64{2: 43, 5: 2}, Timeouts: 2, Retries: 3, Rescued: 3}},
		},
	}
	if diff := cmp.Diff(want, v, ofLatency, ofConnections); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantLatency(t, v.Edges[0].Latency)
}

// wantLatency: most of the requests were fast, and the two that timed out after 250 ms are in it, which is no bound of a bucket.
func wantLatency(t *testing.T, h observe.Histogram) {
	t.Helper()
	if h.Count() != 55 {
		t.Errorf("%d of 55 requests have a time", h.Count())
	}
	if p50, ok := h.Quantile(0.5); !ok || p50 > 50 {
		t.Errorf("p50 is %v ms", p50)
	}
	if p99, ok := h.Quantile(0.99); !ok || p99 < 200 {
		t.Errorf("p99 is %v ms: the two that timed out are missing", p99)
	}
}

// pushed waits until the sidecar has pushed all that was asked.
func pushed(t *testing.T, observer *observe.Observer, requests uint64) observe.View {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		v := observer.View(time.Time{}, nil)
		if len(v.Edges) > 0 && v.Edges[0].Requests() >= requests {
			return v
		}
		select {
		case <-deadline.Done():
			t.Fatalf("the %d requests were not pushed; got %+v", requests, v)
		case <-tick.C:
		}
	}
}

// sidecar runs an Envoy on the listener and gives its address and what ends it.
func sidecar(t *testing.T, observer *observe.Observer, app int) (base string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hdl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca := identities.New(t, "cluster.local")
	door := ca.Door(t)
	serve(t, door, observer, app)
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	p := envoy.New(envoy.Options{
		Binary: binary,
		Bootstrap: bootstrap.Options{
			ID: "shop/web-1", Server: door.Server, SDS: ca.Serve(t, ca.ID("shop", "web")).Socket, FlushInterval: time.Second,
		},
		Concurrency: 1,
		Log:         zerolog.New(zerolog.NewTestWriter(t)),
		Dir:         dir,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := p.Get(ctx, "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var listeners struct {
		Listeners []struct {
			Address struct {
				Socket struct {
					Port int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := yaml.Unmarshal(text, &listeners); err != nil || len(listeners.Listeners) != 1 {
		t.Fatalf("listeners: %v %s", err, text)
	}
	addr := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: listeners.Listeners[0].Address.Socket.Port}
	return "http://" + addr.String(), func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// serve is a control plane with one configuration, and the observer.
func serve(t *testing.T, door identities.Door, observer *observe.Observer, app int) {
	t.Helper()
	snapshot, err := cache.NewSnapshot("1", map[resource.Type][]types.Resource{
		resource.ListenerType: {read(t, listener, &listenerv3.Listener{})},
		resource.ClusterType:  {cluster(t, "version=v1", app), cluster(t, "version=v2", app)},
	})
	if err != nil {
		t.Fatal(err)
	}
	snapshots := cache.NewSnapshotCache(true, cache.IDHash{}, nil)
	if err := snapshots.SetSnapshot(t.Context(), "shop/web-1", snapshot); err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(door.Credentials())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(t.Context(), snapshots, nil))
	metricsv3.RegisterMetricsServiceServer(s, observer)
	l := door.Listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.GracefulStop() // returns when the sidecar's last words are read
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func cluster(t *testing.T, subset string, app int) types.Resource {
	t.Helper()
	c := read(t, fmt.Sprintf(`
type: STATIC
load_assignment:
  cluster_name: app
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`, app), &clusterv3.Cluster{})
	c.Name = "ob|shop|catalog|80|" + subset
	c.AltStatName = c.Name
	return c
}

// read parses YAML into a message.
func read[M proto.Message](t *testing.T, text string, m M) M {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(json, m); err != nil {
		t.Fatal(err)
	}
	return m
}
