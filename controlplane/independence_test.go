package controlplane

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

const meshSize = 50 // Services

// counted is a mesh in which one sidecar is connected, and every translation is counted.
type counted struct {
	*publisher
	registry *prometheus.Registry
}

func newCounted(t *testing.T) counted {
	t.Helper()
	registry := prometheus.NewRegistry()
	state := mesh.New(mesh.Options{Namespace: DefaultNamespace})
	c := counted{newPublisher(state, xds.NewStore(), newMetrics(registry), zerolog.Nop()), registry}
	c.changes(state.Apply(benchFacts(meshSize)))
	if _, _, err := c.attach(peerFor(benchPod(0, 0)), translator.Capture{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// translations counts what events make it translate, by kind.
func (c counted) translations(t *testing.T, events ...model.Event) map[string]int {
	t.Helper()
	before := c.counts(t)
	c.changes(c.state.Apply(events))
	after := c.counts(t)
	maps.DeleteFunc(after, func(kind string, n int) bool { return n == before[kind] })
	for kind := range after {
		after[kind] -= before[kind]
	}
	return after
}

func (c counted) counts(t *testing.T) map[string]int {
	t.Helper()
	families, err := c.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range families {
		if f.GetName() != "heddle_translations_total" {
			continue
		}
		for _, m := range f.Metric {
			out[m.Label[0].GetValue()] = int(m.Counter.GetValue())
		}
	}
	return out
}

func trafficPolicy(name, text string) model.Event {
	return model.Event{Policy: &model.PolicyText{
		Key: model.Key{Namespace: "bench", Name: name}, UID: name,
		Documents: []model.PolicyDocument{{Item: "traffic.yaml", Text: text}},
	}}
}

func TestAChangeTranslatesWhatItTouchesAndNothingElse(t *testing.T) {
	tests := map[string]struct {
		before []model.Event
		change model.Event
		want   map[string]int
	}{
		"an endpoint that becomes unready": {
			change: model.Event{Slice: benchSlice(7, false)},
			want:   map[string]int{"endpoints": 1},
		},
		"the same facts again": {
			change: model.Event{Slice: benchSlice(7, true)},
			want:   map[string]int{},
		},
		"a Service that moves": {
			change: model.Event{Service: func() *model.Service {
				s := benchService(7, "")
				s.Addresses[0] = netip.MustParseAddr("10.97.0.1")
				s.Hash += "moved"
				return s
			}()},
			want: map[string]int{"outbound": 1},
		},
		"a new Service without endpoints": {
			change: model.Event{Service: benchService(meshSize, "")},
			want:   map[string]int{"outbound": 1, "endpoints": 1},
		},
		"a policy for one Service": {
			change: trafficPolicy("p", "kind: Traffic\nservice: svc-0007\ntimeout: 1s\n"),
			want:   map[string]int{"outbound": 1},
		},
		"an edit of that policy": {
			before: []model.Event{trafficPolicy("p", "kind: Traffic\nservice: svc-0007\ntimeout: 1s\n")},
			change: trafficPolicy("p", "kind: Traffic\nservice: svc-0007\ntimeout: 2s\n"),
			want:   map[string]int{"outbound": 1},
		},
		"an edit that is refused": {
			before: []model.Event{trafficPolicy("p", "kind: Traffic\nservice: svc-0007\ntimeout: 1s\n")},
			change: trafficPolicy("p", "kind: Traffic\nservice: svc-0007\ntimeout: -2s\n"),
			want:   map[string]int{},
		},
		"a pod that nobody's sidecar is connected for": {
			change: model.Event{Pod: benchPod(5, 5)},
			want:   map[string]int{},
		},
		"a rate limit on the Service of the connected sidecar": {
			change: trafficPolicy("p", "kind: Traffic\nservice: svc-0000\nroutes:\n- {name: all, rateLimit: {requests: 1, per: 1s}}\n"),
			want:   map[string]int{"outbound": 1, "inbound": 1},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		tt := tests[name]
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			c := newCounted(t)
			c.changes(c.state.Apply(tt.before))
			if diff := cmp.Diff(tt.want, c.translations(t, tt.change)); diff != "" {
				t.Errorf("translations of a mesh of %d Services (-want +got):\n%s", meshSize, diff)
			}
		})
	}
}
