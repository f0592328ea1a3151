package translator

import (
	"fmt"
	"net/netip"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/model"
)

// spread has one endpoint in each of two zones and a second one on another node of the first zone.
func spread() *model.Endpoints {
	at := func(last byte, zone, node string) model.Endpoint {
		return model.Endpoint{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 80), Healthy: true, Zone: zone, Node: node}
	}
	return &model.Endpoints{
		Service: model.Key{Namespace: "shop", Name: "catalog"},
		Ports:   []model.PortEndpoints{{Port: 80, Endpoints: []model.Endpoint{at(1, "a", "n1"), at(2, "a", "n2"), at(3, "b", "n3")}}},
	}
}

// tiers lists addresses by priority.
func tiers(a *endpointv3.ClusterLoadAssignment) []string {
	var out []string
	for _, group := range a.Endpoints {
		for _, e := range group.LbEndpoints {
			out = append(out, fmt.Sprint(group.Priority, " ", e.GetEndpoint().Address.GetSocketAddress().Address))
		}
	}
	return out
}

func TestCallersSeeEndpointsByCloseness(t *testing.T) {
	inA := model.Location{Zone: "a", Node: "n2"}
	tests := map[string]struct {
		change func(*model.Endpoints)
		want   []string
	}{
		"without a preference all are alike": {
			func(*model.Endpoints) {},
			[]string{"0 10.0.0.1", "0 10.0.0.2", "0 10.0.0.3"},
		},
		"a preferred zone comes first": {
			func(e *model.Endpoints) { e.Prefer = model.PreferZone },
			[]string{"0 10.0.0.1", "0 10.0.0.2", "1 10.0.0.3"},
		},
		"a preferred node comes before its zone": {
			func(e *model.Endpoints) { e.Prefer = model.PreferNode },
			[]string{"0 10.0.0.2", "1 10.0.0.1", "2 10.0.0.3"},
		},
		"hints count for more than the zone": {
			func(e *model.Endpoints) {
				e.Prefer = model.PreferZone
				e.Ports[0].Endpoints[2].ForZones = []string{"a"}
				e.Ports[0].Endpoints[0].ForZones = []string{"b"}
			},
			[]string{"0 10.0.0.2", "0 10.0.0.3", "1 10.0.0.1"},
		},
		"internalTrafficPolicy Local knows only the node": {
			func(e *model.Endpoints) { e.NodeLocal = true },
			[]string{"0 10.0.0.2"},
		},
		"priorities have no gaps": {
			func(e *model.Endpoints) {
				e.Prefer = model.PreferNode
				e.Ports[0].Endpoints = e.Ports[0].Endpoints[2:]
			},
			[]string{"0 10.0.0.3"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := spread()
			tt.change(e)
			got := tiers(Endpoints(e, inA)[0])
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("priority and address (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASubsetHasTheEndpointsWithItsLabels(t *testing.T) {
	e := spread()
	v2 := model.LabelsOf(map[string]string{"version": "v2"})
	e.Ports[0].Endpoints[1].Labels = model.LabelsOf(map[string]string{"version": "v2", "app": "catalog"})
	e.Subsets = []model.Labels{v2, model.LabelsOf(map[string]string{"version": "none"})}

	got := Endpoints(e, model.Location{})

	if len(got) != 3 || got[1].ClusterName != "ob|shop|catalog|80|version=v2" {
		t.Fatalf("want the port and two subsets, got %v", got)
	}
	if diff := cmp.Diff([]string{"0 10.0.0.2"}, tiers(got[1])); diff != "" {
		t.Errorf("subset (-want +got):\n%s", diff)
	}
	if len(got[2].Endpoints) != 0 {
		t.Errorf("a subset without pods has endpoints: %v", got[2])
	}
}

func TestFailingEndpointsAreTheLastResort(t *testing.T) {
	inA := model.Location{Zone: "a"}
	for name, c := range map[string]struct {
		failing []int
		prefer  model.Preference
		want    []string
	}{
		"none":              {nil, model.PreferNone, []string{"0 10.0.0.1", "0 10.0.0.2", "0 10.0.0.3"}},
		"one":               {[]int{0}, model.PreferNone, []string{"0 10.0.0.2", "0 10.0.0.3", "1 10.0.0.1"}},
		"two":               {[]int{0, 1}, model.PreferNone, []string{"0 10.0.0.3", "1 10.0.0.1", "1 10.0.0.2"}},
		"all":               {[]int{0, 1, 2}, model.PreferNone, []string{"0 10.0.0.1", "0 10.0.0.2", "0 10.0.0.3"}},
		"far before broken": {[]int{0}, model.PreferZone, []string{"0 10.0.0.2", "1 10.0.0.3", "2 10.0.0.1"}},
	} {
		e := spread()
		e.Prefer = c.prefer
		for _, i := range c.failing {
			e.Ports[0].Endpoints[i].Failing = true
		}
		if diff := cmp.Diff(c.want, tiers(Endpoints(e, inA)[0])); diff != "" {
			t.Errorf("%s: priority and address (-want +got):\n%s", name, diff)
		}
	}
}
