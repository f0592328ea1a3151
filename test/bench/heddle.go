package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/heddle-mesh/heddle/xds"
)

// perService are the types of which every Service has one.
func perService() []xds.Type { return []xds.Type{xds.Listener, xds.Route, xds.Cluster, xds.Endpoints} }

// heddle serves with our own server.
type heddle struct {
	store  *xds.Store
	acked  atomic.Int64
	staged xds.Update
}

func newHeddle() *heddle { return &heddle{store: xds.NewStore()} }

func (h *heddle) register() *grpc.Server {
	s := grpc.NewServer(xds.ServerOptions()...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, xds.NewServer(xds.Options{
		Store: h.store,
		Connect: func(_ context.Context, n *corev3.Node) (xds.Session, error) { // as many layers as in the mesh
			return xds.Session{Layers: []xds.Layer{xds.Layer("pod/" + n.GetId()), "node", "zone", "namespace", "mesh"}}, nil
		},
		Observer: h,
		Grace:    100 * time.Millisecond,
		Accepts:  100_000, Burst: 100_000,
	}))
	h.store.MarkSynced()
	return s
}

// Observe counts acknowledgements.
func (h *heddle) Observe(e xds.Event) {
	if e.Kind == xds.Acked {
		h.acked.Add(1)
	}
}

func (h *heddle) acks() int { return int(h.acked.Load()) }

func (h *heddle) prepare(set []named, gone []string) ([]Wanted, error) {
	h.staged = xds.Update{Layer: "mesh"}
	var want []Wanted
	var errs []error
	for _, n := range set {
		r, err := xds.NewResource(n.name, n.message)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.staged.Set = append(h.staged.Set, r)
		want = append(want, Wanted{r.Type.URL(), r.Name, r.Version})
	}
	for _, name := range gone {
		for _, t := range perService() {
			h.staged.Remove = append(h.staged.Remove, xds.Ref{Type: t, Name: name})
			want = append(want, Wanted{Type: t.URL(), Name: name})
		}
	}
	return want, errors.Join(errs...)
}

func (h *heddle) publish() error {
	h.store.Publish(h.staged)
	return nil
}
