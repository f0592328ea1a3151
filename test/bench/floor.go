package main

import (
	"sync"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/xds"
)

// floor sends one response that is marshalled already to every stream, straight from the publishing goroutine, and
// reads the answers without looking at them. It knows no protocol and keeps no state: no server can cost less. Its
// transport has the options of ours.
type floor struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	answers  atomic.Int64
	response *raw

	mu      sync.Mutex
	streams map[grpc.ServerStream]struct{}
}

func newFloor() *floor { return &floor{streams: map[grpc.ServerStream]struct{}{}} }

func (f *floor) register() *grpc.Server {
	s := grpc.NewServer(xds.ServerOptions(grpc.ForceServerCodecV2(rawCodec{}))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, f)
	return s
}

// DeltaAggregatedResources greets a proxy with the response of the day and then counts its answers.
func (f *floor) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	var nothing raw
	if err := stream.RecvMsg(&nothing); err != nil {
		return err
	}
	f.mu.Lock()
	err := stream.SendMsg(f.response)
	f.streams[stream] = struct{}{}
	f.mu.Unlock()
	for err == nil {
		if err = stream.RecvMsg(&nothing); err == nil {
			f.answers.Add(1)
		}
	}
	f.mu.Lock()
	delete(f.streams, stream)
	f.mu.Unlock()
	return err
}

func (f *floor) acks() int { return int(f.answers.Load()) }

// prepare marshals a response with the endpoints among set, whatever else is in it.
func (f *floor) prepare(set []named, _ []string) ([]Wanted, error) {
	var err error
	var want Wanted
	for _, n := range set {
		r, fault := xds.NewResource(n.name, n.message)
		if fault != nil {
			return nil, fault
		}
		if r.Type != xds.Endpoints {
			continue
		}
		response := &discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: r.Type.URL(), Nonce: "1",
			Resources: []*discoveryv3.Resource{{Name: n.name, Version: r.Version, Resource: pack(n.message)}},
		}
		f.response = &raw{}
		f.response.bytes, err = proto.Marshal(response)
		want = Wanted{r.Type.URL(), r.Name, r.Version}
	}
	return []Wanted{want}, err
}

func (f *floor) publish() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for stream := range f.streams {
		if err := stream.SendMsg(f.response); err != nil {
			return err
		}
	}
	return nil
}
