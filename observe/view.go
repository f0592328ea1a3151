package observe

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// View is what happened in a period, each list sorted.
type View struct {
	Edges    []Edge
	Targets  []Target
	Routes   []Route
	Received []Received
	Dropped  uint64 // samples since the start that found no place
}

// Edge is what a caller met when it called a Service.
type Edge struct {
	Source  string
	Service model.Key
	Port    uint16
	Sample
}

// Target is what a caller's sidecar sent to the pods of a Service, or to a subset of them.
type Target struct {
	Source  string
	Service model.Key
	Port    uint16
	Subset  string // k=v,k=v; empty for all pods
	Sample
	State State
}

// Route is what one route of a Service took.
type Route struct {
	Source  string
	Service model.Key
	Route   string
	Sample
}

// Received is what a pod's own sidecar received on a port.
type Received struct {
	Pod  string
	Port string
	Sample
}

// view names the series. Sidecars with the same source name are added up.
func (w *window) view(sums map[series]*Sample, source func(node string) string) View {
	if source == nil {
		source = func(node string) string { return node }
	}
	named, namedStates := rename(sums, w.states, source)
	v := View{Dropped: w.dropped}
	for s, sample := range named {
		key, port, subset, ok := service(s.name)
		switch {
		case s.kind == edges && ok:
			v.Edges = append(v.Edges, Edge{Source: s.node, Service: key, Port: port, Sample: *sample})
		case s.kind == targets && ok:
			v.Targets = append(v.Targets, Target{Source: s.node, Service: key, Port: port, Subset: subset,
				Sample: *sample, State: namedStates[s]})
		case s.kind == routes:
			namespace, name, _ := strings.Cut(s.name, "/")
			v.Routes = append(v.Routes, Route{Source: s.node, Service: model.Key{Namespace: namespace, Name: name},
				Route: s.part, Sample: *sample})
		case s.kind == received && s.part == "":
			v.Received = append(v.Received, Received{Pod: s.node, Port: strings.TrimPrefix(s.name, "in|"), Sample: *sample})
		}
	}
	v.blameGRPC()
	v.sort()
	return v
}

// rename replaces nodes by the names of sources and adds up what becomes one. A target that has a state is named even
// if nothing was counted: an endpoint that is out is worth seeing.
func rename(sums map[series]*Sample, states map[series]State, source func(string) string) (map[series]*Sample, map[series]State) {
	named := map[series]*Sample{}
	at := func(s series) *Sample {
		if named[s] == nil {
			named[s] = &Sample{}
		}
		return named[s]
	}
	for s, sample := range sums {
		s.node = source(s.node)
		at(s).Add(sample)
	}
	namedStates := map[series]State{}
	for s, state := range states {
		s.node = source(s.node)
		if known, ok := namedStates[s]; ok {
			state = known.merge(state)
		}
		namedStates[s] = state
		if state.Ejected > 0 || state.Breakers > 0 {
			at(s)
		}
	}
	return named, namedStates
}

// blameGRPC tells edges of gRPC failures: a listener counts such a call by its HTTP status, its clusters know.
func (v *View) blameGRPC() {
	type edge struct {
		source string
		key    model.Key
		port   uint16
	}
	failed := map[edge]uint64{}
	for _, t := range v.Targets {
		failed[edge{t.Source, t.Service, t.Port}] += t.GRPCFailed
	}
	for i := range v.Edges {
		e := &v.Edges[i]
		e.GRPCFailed += failed[edge{e.Source, e.Service, e.Port}]
	}
}

func (v *View) sort() {
	slices.SortFunc(v.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(v.Targets, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Subset, b.Subset))
	})
	slices.SortFunc(v.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.Service.Compare(b.Service), cmp.Compare(a.Route, b.Route))
	})
	slices.SortFunc(v.Received, func(a, b Received) int {
		return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Port, b.Port))
	})
}

// streaks are the ports of a sidecar's own pod on which a run of failures was found.
func (b batch) streaks() []string {
	found := map[string]bool{}
	for s, r := range b {
		if s.kind == received && r.sample.Streaks > 0 {
			found[strings.TrimPrefix(s.name, "in|")] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
