package controlplane

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

// told is a source that says what it is told to say.
type told chan []model.Event

func (s told) Run(ctx context.Context, out func([]model.Event)) error {
	for {
		select {
		case events := <-s:
			out(events)
		case <-ctx.Done():
			return nil
		}
	}
}

func TestASidecarFollowsItsNodeToAnotherZone(t *testing.T) {
	source, socket := make(told, 1), filepath.Join(shortDir(t), "s")
	p, end := started(t, Options{Source: source, Socket: socket})
	pod := benchPod(0, 0)
	pod.Node = "n1"
	source <- []model.Event{{Pod: pod}, {Synced: true}}
	wait(t, "the first listing", p.ready.Load)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	open := func() discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
		t.Helper()
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err == nil {
			err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: pod.Key.String()}, TypeUrl: xds.Cluster.URL()})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	places := func() (places []model.Location) {
		t.Helper()
		if err := p.call(t.Context(), func() {
			for at := range p.publisher.locations {
				places = append(places, at)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return places
	}
	stream := open()
	source <- []model.Event{{Node: &model.Node{Name: "n1", Zone: "z1"}}}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("its stream goes on, or ended with %v; want it to end without fault", err)
	}
	open()
	if got := places(); len(got) != 2 || !slices.Contains(got, model.Location{Zone: "z1"}) {
		t.Errorf("sidecars are at %+v; want one node in z1", got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
