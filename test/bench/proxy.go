package main

import (
	"context"
	"fmt"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/xds"
)

// proxy is one simulated sidecar. It subscribes as Envoy does: to all clusters; to the endpoints of each; once those
// are there, to all listeners; to the route of each. It confirms clusters only when none lacks endpoints.
type proxy struct {
	group  *group
	number int
	stream grpc.ClientStream

	held       [4]map[uint32]uint64 // by type: version by name, both as numbers of the fleet's tables
	warming    map[uint32]struct{}  // clusters that wait for endpoints
	unrouted   map[uint32]struct{}  // listeners that wait for a route
	asked      bool                 // for listeners
	clusterAck string               // nonce of clusters to be confirmed once none is warming
	arrived    int                  // resources of the fleet's expectation that are there
}

// response is what a proxy reads of a DeltaDiscoveryResponse.
type response struct {
	typ      xds.Type
	nonce    string
	names    []uint32
	versions []uint64
	removed  []uint32
}

// run connects and takes what comes until ctx ends.
func (p *proxy) run(ctx context.Context, address string, transport credentials.TransportCredentials) error {
	const window = 1 << 20
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(4<<10))
	if err != nil {
		return err
	}
	defer conn.Close()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	if p.stream, err = conn.NewStream(ctx, desc, discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName); err != nil {
		return err
	}
	if err := p.send(&discoveryv3.DeltaDiscoveryRequest{Node: node(p.number), TypeUrl: xds.Cluster.URL()}); err != nil {
		return err
	}
	for {
		m := raw{kept: true}
		if err := p.stream.RecvMsg(&m); err != nil {
			return err
		}
		r, err := p.group.fleet.decode(m.bytes)
		if err != nil {
			return err
		}
		p.apply(r)
		if err := p.follow(r); err != nil {
			return err
		}
		p.group.took(p, r)
	}
}

// apply keeps what p is subscribed to and drops what is removed.
func (p *proxy) apply(r *response) {
	p.group.mu.Lock()
	defer p.group.mu.Unlock()
	held := p.held[r.typ]
	for i, name := range r.names {
		if p.wants(r.typ, name) {
			held[name] = r.versions[i]
		}
	}
	for _, name := range r.removed {
		delete(held, name)
	}
}

// wants says whether p has asked for the name: for endpoints and routes that is what a cluster or listener made it do.
func (p *proxy) wants(t xds.Type, name uint32) (ok bool) {
	switch {
	case p.group.echo:
		ok = true
	case t == xds.Endpoints:
		_, ok = p.held[xds.Cluster][name]
	case t == xds.Route:
		_, ok = p.held[xds.Listener][name]
	default:
		ok = true
	}
	return ok
}

// follow does what Envoy does once a response is applied.
func (p *proxy) follow(r *response) error {
	switch {
	case p.group.echo:
		return p.confirm(r.typ, r.nonce)
	case r.typ == xds.Cluster:
		return p.onClusters(r)
	case r.typ == xds.Endpoints:
		for _, name := range append(r.removed, r.names...) {
			delete(p.warming, name)
		}
		if err := p.confirm(r.typ, r.nonce); err != nil {
			return err
		}
		return p.warmed()
	case r.typ == xds.Listener:
		return p.onListeners(r)
	default:
		for _, name := range append(r.removed, r.names...) { // some listeners have their routes in them
			delete(p.unrouted, name)
		}
		return p.confirm(r.typ, r.nonce)
	}
}

// ready says that the start is over: p has everything it was told of.
func (p *proxy) ready() bool {
	return p.group.echo || len(p.held[xds.Listener]) > 0 && len(p.unrouted) == 0
}

func (p *proxy) onClusters(r *response) error {
	var subscribe, unsubscribe []string
	for _, name := range r.names {
		p.warming[name] = struct{}{}
		if _, has := p.held[xds.Endpoints][name]; !has {
			subscribe = append(subscribe, p.group.fleet.text(name))
		}
	}
	for _, name := range r.removed {
		delete(p.held[xds.Endpoints], name)
		unsubscribe = append(unsubscribe, p.group.fleet.text(name))
	}
	if err := p.ask(xds.Endpoints, subscribe, unsubscribe); err != nil {
		return err
	}
	p.clusterAck = r.nonce
	return p.warmed()
}

// warmed confirms the clusters once none is warming, and asks for listeners when that is so for the first time.
func (p *proxy) warmed() error {
	if len(p.warming) > 0 {
		return nil
	}
	if p.clusterAck != "" {
		if err := p.confirm(xds.Cluster, p.clusterAck); err != nil {
			return err
		}
		p.clusterAck = ""
	}
	if p.asked {
		return nil
	}
	p.asked = true
	return p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Listener.URL()})
}

func (p *proxy) onListeners(r *response) error {
	var subscribe, unsubscribe []string
	for _, name := range r.names {
		if _, has := p.held[xds.Route][name]; !has {
			p.unrouted[name] = struct{}{}
			subscribe = append(subscribe, p.group.fleet.text(name))
		}
	}
	for _, name := range r.removed {
		delete(p.held[xds.Route], name)
		delete(p.unrouted, name)
		unsubscribe = append(unsubscribe, p.group.fleet.text(name))
	}
	if err := p.ask(xds.Route, subscribe, unsubscribe); err != nil {
		return err
	}
	return p.confirm(r.typ, r.nonce)
}

func (p *proxy) ask(t xds.Type, subscribe, unsubscribe []string) error {
	if len(subscribe)+len(unsubscribe) == 0 {
		return nil
	}
	return p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: t.URL(), ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe,
	})
}

func (p *proxy) confirm(t xds.Type, nonce string) error {
	p.group.acks.Add(1)
	return p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResponseNonce: nonce})
}

func (p *proxy) send(r *discoveryv3.DeltaDiscoveryRequest) error {
	b, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	return p.stream.SendMsg(&raw{bytes: b})
}

// node is the size of what an Envoy 1.40 says of itself: 61 KB, most of it the names of 516 extensions.
func node(i int) *corev3.Node {
	n := &corev3.Node{
		Id: pod(i, 0).String(), Cluster: "mesh",
		UserAgentName: "envoy",
		Metadata:      &structpb.Struct{Fields: map[string]*structpb.Value{"pod": structpb.NewStringValue(strconv.Itoa(i))}},
	}
	for e := range 516 {
		n.Extensions = append(n.Extensions, &corev3.Extension{
			Name: fmt.Sprintf("envoy.filters.http.extension_%d", e), Category: "envoy.filters.http",
			TypeUrls: []string{fmt.Sprintf("envoy.extensions.filters.http.extension_%d.v3.Extension", e)},
		})
	}
	return n
}
