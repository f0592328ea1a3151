package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestStreamsThatBeganTogetherDoNotEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore()
		store.MarkSynced()
		connect := func(context.Context, *corev3.Node) (Session, error) { return Session{}, nil }
		server := NewServer(Options{Store: store, Connect: connect, MaxAge: 30 * time.Minute})
		const all = 100
		var left sync.WaitGroup
		var ended atomic.Int64
		for i := range all {
			p := dial(server, fmt.Sprint("shop/web-", i), delta)
			left.Go(func() {
				<-p.ctx.Done()
				ended.Add(1)
			})
		}
		for _, step := range []struct {
			after    time.Duration
			from, to int64 // ended
		}{{26 * time.Minute, 0, 0}, {4 * time.Minute, all / 4, all * 3 / 4}, {4 * time.Minute, all, all}} {
			time.Sleep(step.after)
			synctest.Wait()
			if n := ended.Load(); n < step.from || n > step.to {
				t.Errorf("%v later %d of %d streams have ended; want %d to %d", step.after, n, all, step.from, step.to)
			}
		}
		left.Wait()
	})
}

// counted is a listener that counts connections.
type counted struct {
	net.Listener
	n atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// A fake would not do here: it is grpc that ends connections.
func TestAStreamAfterAnOldOneBeginsOnANewConnection(t *testing.T) {
	store := NewStore()
	store.MarkSynced()
	const age = 500 * time.Millisecond
	connect := func(context.Context, *corev3.Node) (Session, error) { return Session{}, nil }
	s := grpc.NewServer(ServerOptions(ConnectionAge(age))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, NewServer(Options{Store: store, Connect: connect, MaxAge: age}))
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	connections := &counted{Listener: listener}
	go s.Serve(connections)
	defer s.Stop()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range int64(3) {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "shop/web-1"}, TypeUrl: Cluster.URL()}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("stream %d ended with %v; want no fault", i, err)
		}
		if n := connections.n.Load(); n != i+1 {
			t.Errorf("%d streams, one after the other, came on %d connections", i+1, n)
		}
	}
}
