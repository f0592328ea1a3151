package translator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/heddle-mesh/heddle/model"
)

func TestAnAssignmentIsTheMessageMarshalled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		e, at := anyEndpoints(r), model.Location{Zone: anyOne(r, "", "a", "b"), Node: anyOne(r, "", "n1", "n2")}
		messages, written := Endpoints(e, at), Assignments(e, at)
		if len(messages) != len(written) {
			t.Fatalf("%d assignments for %d messages", len(written), len(messages))
		}
		for i, m := range messages {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.ValidateAll(); err != nil {
				t.Fatal(err)
			}
			if m.ClusterName != written[i].Cluster {
				t.Errorf("%s is said to be of cluster %s", m.ClusterName, written[i].Cluster)
			}
			if string(want) == string(written[i].Value) {
				continue
			}
			var got endpointv3.ClusterLoadAssignment
			if err := proto.Unmarshal(written[i].Value, &got); err != nil {
				t.Fatalf("%s: %v", m.ClusterName, err)
			}
			t.Fatalf("other bytes; as messages (-want +got):\n%s", cmp.Diff(m, &got, protocmp.Transform()))
		}
	}
}

// anyEndpoints has all that endpoints may differ in.
func anyEndpoints(r *rand.Rand) *model.Endpoints {
	v2 := model.LabelsOf(map[string]string{"version": "v2"})
	e := &model.Endpoints{
		Service: model.Key{Namespace: "shop", Name: "catalog"},
		Prefer:  anyOne(r, model.PreferNone, model.PreferZone, model.PreferNode), NodeLocal: r.IntN(4) == 0,
	}
	if r.IntN(2) == 0 {
		e.Subsets = []model.Labels{v2}
	}
	if r.IntN(2) == 0 {
		e.Origins = []model.Origin{{Kind: "ConfigMap", Key: model.Key{Namespace: "shop", Name: "p"}, Item: "x.yaml", Part: "loadBalancer", Hash: "1"}}
	}
	for port := range 1 + r.IntN(2) {
		p := model.PortEndpoints{Port: uint16(80 + port)}
		for i := range r.IntN(30) {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(i)})
			if r.IntN(3) == 0 {
				a = netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x:%x::%x", r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), i))
			}
			p.Endpoints = append(p.Endpoints, model.Endpoint{
				Address: netip.AddrPortFrom(a, uint16(r.IntN(1<<16))),
				Healthy: r.IntN(3) > 0, Failing: r.IntN(5) == 0, Meshed: r.IntN(3) > 0, Account: anyOne(r, "default", "web"),
				Region: anyOne(r, "", "eu"), Zone: anyOne(r, "", "a", "b"), Node: anyOne(r, "", "n1", "n2"), Labels: anyOne(r, nil, v2),
			})
		}
		e.Ports = append(e.Ports, p)
	}
	return e
}

func anyOne[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }
