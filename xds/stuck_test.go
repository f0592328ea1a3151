package xds

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

// A fake would not do here: what grpc takes before it waits is what matters.
func TestAProxyThatStopsReadingHoldsNoPublisherBack(t *testing.T) {
	store := NewStore()
	store.MarkSynced()
	handled := make(chan struct{}, 10)
	server := NewServer(Options{Store: store, Connect: func(context.Context, *corev3.Node) (Session, error) {
		return Session{Layers: []Layer{"mesh"}}, nil
	}, Observer: onSent(func() { handled <- struct{}{} })})
	s := grpc.NewServer(ServerOptions()...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server)
	socket := filepath.Join(t.TempDir(), "ads.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(listener)
	defer s.Stop()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say := func(r *discoveryv3.DeltaDiscoveryRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	say(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "shop/web"}, TypeUrl: Cluster.URL()})
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	<-handled
	say(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: Cluster.URL(), ResponseNonce: first.GetNonce()})
	var names []string
	for i := range 40_000 {
		names = append(names, fmt.Sprintf("a secret that nobody has, %d", i))
	}
	say(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", ResourceNamesSubscribe: names})
	<-handled // and from here on it reads no more

	published := make(chan struct{})
	go func() {
		defer close(published)
		r, err := NewResource("c", &clusterv3.Cluster{Name: "c", ConnectTimeout: durationpb.New(time.Second)})
		if err != nil {
			t.Error(err)
			return
		}
		store.Publish(Update{Layer: "mesh", Set: []*Resource{r}})
	}()
	select {
	case <-published:
	case <-time.After(10 * time.Second):
		t.Error("a publisher waits for a proxy that does not read")
	}
}

// onSent is called after each response that grpc took.
type onSent func()

func (f onSent) Observe(e Event) {
	if e.Kind == Sent {
		f()
	}
}

func TestWhoHasNotReadAResponseCannotAcknowledgeIt(t *testing.T) {
	if a, b := unguessable(1), unguessable(1); a == b {
		t.Errorf("the first response of two streams has the nonce %s on both", a)
	}
}
