package xds

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
)

// The rules that the scripts hold a server to come from what Envoy does. These tests hold Envoy to them.

func TestANewServiceReachesEnvoyInFourResponses(t *testing.T) {
	l := startEnvoy(t, service("a", "1")...)
	l.wantStat("listener_manager.total_listeners_active", 1)

	l.publish(service("b", "1")...)

	l.wantSent("CDS b", "EDS b", "LDS b", "RDS b")
	l.wantStat("listener_manager.total_listeners_active", 2)
	l.wantStat("cluster_manager.warming_clusters", 0)
}

func TestAChangedClusterIsWarmAtOnce(t *testing.T) {
	l := startEnvoy(t, service("a", "1")...)
	start := time.Now()

	l.publish(sample(Cluster, "a", "2"))

	l.wantSent("CDS a", "EDS a")
	l.wantStat("cluster_manager.warming_clusters", 0)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v: Envoy waited for endpoints (15 s)", took)
	}
}

func TestARefusedClusterCostsItsNeighboursNothing(t *testing.T) {
	l := startEnvoy(t, service("a", "1")...)
	bad := sample(Cluster, "bad", "1").(*clusterv3.Cluster)
	bad.TransportSocket = &corev3.TransportSocket{Name: "no.such.socket"}

	l.publish(append(service("b", "1"), bad)...)

	l.wantSent("CDS b bad", "EDS b", "CDS b", "EDS b", "LDS b", "RDS b")
	l.wantStat("cluster_manager.cds.update_rejected", 1)
	l.wantStat("listener_manager.total_listeners_active", 2)
}

func TestRefusedEndpointsCostTheirNeighboursNothing(t *testing.T) {
	l := startEnvoy(t, append(service("a", "1"), service("b", "1")...)...)

	l.publish(at("a", "not.an.address"), at("b", "127.0.0.9"))

	l.wantSent("EDS a b", "EDS a", "EDS b", "EDS a") // together, the two halves, and the one that was good before
	clusters, err := l.proxy.Get(t.Context(), "/clusters")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(clusters), "b::127.0.0.9:80::") {
		t.Errorf("Envoy did not take the good endpoints; its clusters:\n%s", clusters)
	}
}

// at gives a cluster one endpoint.
func at(cluster, host string) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
			}}},
		}}}},
	}}}
}

func TestAListenerWithoutItsRouteDoesNotKeepEnvoyFromStarting(t *testing.T) {
	l := startEnvoy(t, append(service("a", "1"), sample(Listener, "lost", "1"))...)
	l.wantStat("listener_manager.total_listeners_active", 2)
}

func TestAReconnectingEnvoyIsSentOnlyWhatChanged(t *testing.T) {
	l := startEnvoy(t, append(service("a", "1"), service("b", "1")...)...)
	l.grpc.Stop()
	r, err := NewResource("a", sample(Cluster, "a", "2"))
	if err != nil {
		t.Fatal(err)
	}
	l.store.Publish(Update{Layer: "mesh", Set: []*Resource{r}})

	l.serve(t)

	l.wantSent("CDS a", "EDS a", "LDS")
	l.wantStat("cluster_manager.warming_clusters", 0)
}

// service is what one Service is to a sidecar.
func service(name, label string) []proto.Message {
	return []proto.Message{
		sample(Cluster, name, label), sample(Endpoints, name, label), sample(Listener, name, label), sample(Route, name, label),
	}
}

// envoyTest is a real Envoy with a store of its own, and a record of what passes between them.
type envoyTest struct {
	t     *testing.T
	store *Store
	door  identities.Door
	grpc  *grpc.Server
	proxy *envoy.Proxy

	mu      sync.Mutex
	changed *sync.Cond
	sent    []string
	looked  int // of sent
	open    int // responses not answered
}

// startEnvoy runs an Envoy that has taken the given resources.
func startEnvoy(t *testing.T, resources ...proto.Message) *envoyTest {
	t.Helper()
	ca := identities.New(t, "cluster.local")
	l := &envoyTest{t: t, store: NewStore(), door: ca.Door(t)}
	l.changed = sync.NewCond(&l.mu)
	l.publish(resources...)
	l.store.MarkSynced()
	l.serve(t)
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	l.proxy = envoy.New(envoy.Options{
		Binary: binary, Concurrency: 1,
		Bootstrap: bootstrap.Options{ID: "shop/web-1", Server: l.door.Server, SDS: ca.Serve(t, ca.ID("shop", "web")).Socket},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	ready, done := context.WithTimeout(ctx, 14*time.Second) // before Envoy's own limit for what it misses
	defer done()
	if err := l.proxy.Ready(ready); err != nil {
		t.Fatal(err)
	}
	l.settle()
	l.looked = len(l.sent)
	return l
}

// serve answers at the door until the test ends or grpc is stopped.
func (l *envoyTest) serve(t *testing.T) {
	t.Helper()
	listener := l.door.Listen(t)
	l.grpc = grpc.NewServer(ServerOptions(l.door.Credentials(), grpc.WaitForHandlers(true), grpc.StreamInterceptor(
		func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			l.mu.Lock()
			l.open = 0
			l.mu.Unlock()
			return handle(srv, &recorder{stream, l})
		}))...)
	connect := func(context.Context, *corev3.Node) (Session, error) { return Session{Layers: []Layer{"mesh"}}, nil }
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(l.grpc, NewServer(Options{Store: l.store, Connect: connect}))
	served := make(chan error, 1)
	go func() { served <- l.grpc.Serve(listener) }()
	stop := l.grpc.Stop
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func (l *envoyTest) publish(resources ...proto.Message) {
	l.t.Helper()
	u := Update{Layer: "mesh"}
	for _, m := range resources {
		name, err := new(Resource).inspect(m)
		if err != nil {
			l.t.Fatal(err)
		}
		r, err := NewResource(name, m)
		if err != nil {
			l.t.Fatal(err)
		}
		u.Set = append(u.Set, r)
	}
	l.store.Publish(u)
}

// settle waits until Envoy has answered all that was sent.
func (l *envoyTest) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open > 0 {
		l.changed.Wait()
	}
}

// wantSent waits for as many responses as are wanted, and their answers.
func (l *envoyTest) wantSent(want ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.sent)-l.looked < len(want) || l.open > 0 {
		l.changed.Wait()
	}
	if diff := cmp.Diff(want, l.sent[l.looked:]); diff != "" {
		l.t.Errorf("responses to Envoy (-want +got):\n%s", diff)
	}
	l.looked = len(l.sent)
}

// wantStat waits until one of Envoy's statistics has a value.
func (l *envoyTest) wantStat(name string, want uint64) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		stats, err := l.proxy.Stats(l.t.Context(), strings.ReplaceAll(name, ".", `\.`))
		if err != nil {
			l.t.Fatal(err)
		}
		if stats[name] == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.t.Errorf("%s is %d; want %d", name, stats[name], want)
			return
		}
	}
}

// recorder writes down what is sent on a stream and counts the answers.
type recorder struct {
	grpc.ServerStream
	test *envoyTest
}

func (r *recorder) SendMsg(m any) error {
	var response discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(m.(*message).data.Materialize(), &response); err != nil {
		return err
	}
	words := make([]string, 0, len(response.Resources))
	for _, resource := range response.Resources {
		words = append(words, resource.Name)
	}
	for _, name := range response.RemovedResources {
		words = append(words, "-"+name)
	}
	slices.Sort(words)
	r.test.mu.Lock()
	r.test.sent = append(r.test.sent, strings.Join(append([]string{short(response.TypeUrl)}, words...), " "))
	r.test.open++
	r.test.changed.Broadcast()
	r.test.mu.Unlock()
	return r.ServerStream.SendMsg(m)
}

func (r *recorder) RecvMsg(m any) error {
	err := r.ServerStream.RecvMsg(m)
	if request, ok := m.(*discoveryv3.DeltaDiscoveryRequest); ok && err == nil && request.ResponseNonce != "" {
		r.test.mu.Lock()
		r.test.open--
		r.test.changed.Broadcast()
		r.test.mu.Unlock()
	}
	return err
}
