package observe_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/observe"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
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
              timeout: 0.2s
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
	flaky := 0
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/flaky":
			if flaky++; flaky%2 == 1 { // the retry of each succeeds
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
	if len(v.Edges) != 1 || len(v.Targets) != 2 || len(v.Routes) != 2 {
		t.Fatalf("got %d edges, %d targets, %d routes: %+v", len(v.Edges), len(v.Targets), len(v.Routes), v)
	}
	e, v1, v2 := v.Edges[0], v.Targets[0], v.Targets[1]
	if e.Source != "shop/web-1" || e.Service.String() != "shop/catalog" || e.Port != 80 {
		t.Errorf("the edge is %s to %s:%d", e.Source, e.Service, e.Port)
	}
	if e.Requests() != 55 || e.Failures() != 2 || e.Latency.Count() != 55 {
		t.Errorf("the caller met %d requests, %d failures, %d times; want 55, 2, 55", e.Requests(), e.Failures(), e.Latency.Count())
	}
	if p50, _ := e.Latency.Quantile(0.5); p50 > 50 {
		t.Errorf("p50 is %v ms", p50)
	}
	if p99, _ := e.Latency.Quantile(0.99); p99 < 190 {
		t.Errorf("p99 is %v ms: the two that timed out after 200 ms are missing", p99)
	}
	if v1.Requests() != 45 || v1.Subset != "version=v1" || v2.Requests() != 10 || v2.Subset != "version=v2" {
		t.Errorf("targets: %s had %d, %s had %d", v1.Subset, v1.Requests(), v2.Subset, v2.Requests())
	}
	if v1.Retries != 3 || v1.Rescued != 3 || v1.Timeouts != 2 {
		t.Errorf("retries %d, rescued %d, timeouts %d; want 3, 3, 2", v1.Retries, v1.Rescued, v1.Timeouts)
	}
	if v.Routes[0].Route != "canary" || v.Routes[0].Requests() != 10 || v.Routes[1].Requests() != 45 {
		t.Errorf("routes: %+v", v.Routes)
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
	socket := filepath.Join(dir, "xds.sock")
	serve(t, socket, observer, app)
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	p := envoy.New(envoy.Options{
		Binary:      binary,
		Bootstrap:   bootstrap.Options{ID: "shop/web-1", ADS: socket, FlushInterval: time.Second},
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
func serve(t *testing.T, socket string, observer *observe.Observer, app int) {
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
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(t.Context(), snapshots, nil))
	metricsv3.RegisterMetricsServiceServer(s, observer)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
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
