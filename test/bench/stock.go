package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// stock serves with go-control-plane's own server and snapshot cache, one snapshot for all proxies.
type stock struct {
	cache      cachev3.SnapshotCache
	resources  map[string]map[string]types.Resource // by type and name
	generation int
	answers    atomic.Int64
}

// everyone is the one snapshot's key.
const everyone = "everyone"

type sameForAll struct{}

func (sameForAll) ID(*corev3.Node) string { return everyone }

func newStock() *stock {
	return &stock{cache: cachev3.NewSnapshotCache(true, sameForAll{}, nil), resources: map[string]map[string]types.Resource{}}
}

func (s *stock) register() *grpc.Server {
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(context.Background(), s.cache, serverv3.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.GetResponseNonce() != "" {
				s.answers.Add(1)
			}
			return nil
		},
	}))
	return server
}

func (s *stock) acks() int { return int(s.answers.Load()) }

func (s *stock) prepare(set []named, gone []string) ([]Wanted, error) {
	var want []Wanted
	for _, n := range set {
		bytes, err := cachev3.MarshalResource(n.message)
		if err != nil {
			return nil, err
		}
		url := "type.googleapis.com/" + string(n.message.ProtoReflect().Descriptor().FullName())
		if s.resources[url] == nil {
			s.resources[url] = map[string]types.Resource{}
		}
		s.resources[url][n.name] = n.message
		want = append(want, Wanted{url, n.name, cachev3.HashResource(bytes)})
	}
	for _, name := range gone {
		for url, resources := range s.resources {
			delete(resources, name)
			want = append(want, Wanted{Type: url, Name: name})
		}
	}
	return want, nil
}

func (s *stock) publish() error {
	s.generation++
	all := map[string][]types.Resource{}
	for url, resources := range s.resources {
		all[url] = slices.Collect(maps.Values(resources))
	}
	snapshot, err := cachev3.NewSnapshot(strconv.Itoa(s.generation), all)
	if err != nil {
		return err
	}
	return s.cache.SetSnapshot(context.Background(), everyone, snapshot)
}
