package demo

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
)

// Report is what the sidecars measured in a period, beside what the policies ask for. It is what -o json prints.
type Report struct {
	Seconds       float64        `json:"seconds"` // of load
	Edges         []Edge         `json:"edges"`
	Routes        []Route        `json:"routes"`
	Retries       []Retries      `json:"retries"`
	Breakers      []Breaker      `json:"breakers"`
	Ejections     []Ejections    `json:"ejections"`
	Disagreements []Disagreement `json:"disagreements"`
}

// Edge is a workload calling a Service, as the caller met it. Without requests there is no success and no latency.
type Edge struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Requests    uint64   `json:"requests"`
	RPS         float64  `json:"rps"`
	Success     *float64 `json:"success"` // 0 to 1
	P50         *float64 `json:"p50_ms"`
	P95         *float64 `json:"p95_ms"`
	P99         *float64 `json:"p99_ms"`
}

// Route is one route of a Service for one caller, with where its requests went.
type Route struct {
	Source   string   `json:"source"`
	Service  string   `json:"service"`
	Route    string   `json:"route"`
	Requests uint64   `json:"requests"`
	Targets  []Target `json:"targets"`
}

// Target is a share of a route.
type Target struct {
	Destination string  `json:"destination"`
	Subset      string  `json:"subset,omitempty"`
	Wanted      float64 `json:"wanted"` // by the policy, 0 to 1
	Share       float64 `json:"share"`  // measured
}

// Retries is what became of failed tries.
type Retries struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Retried     uint64 `json:"retried"`
	Rescued     uint64 `json:"rescued"`   // of these: the caller got a good answer
	Unretried   uint64 `json:"unretried"` // the budget or the attempts were used up
}

// Breaker is what a circuit breaker refused.
type Breaker struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	MaxRequests uint32 `json:"max_requests,omitempty"` // by the policy
	Refused     uint64 `json:"refused"`
	Open        bool   `json:"open"` // now
}

// Ejections are endpoints that were taken out of use, and taken back.
type Ejections struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Endpoints   uint64 `json:"endpoints"`
	Ejected     uint64 `json:"ejected"`  // times
	Returned    uint64 `json:"returned"` // times
	OutNow      uint64 `json:"out_now"`
}

// Disagreement is a policy that asks for one thing while another was measured.
type Disagreement struct {
	Policy   string `json:"policy"`
	Wanted   string `json:"wanted"`
	Measured string `json:"measured"`
}

// measured is what a report is made from.
type measured struct {
	seconds float64
	view    observe.View // sources are workloads
	nodes   observe.View // the same period, sources are pods
	source  func(node string) string
	wants   func(namespace string, service model.Key) *model.Outbound
}

// want gives what policies ask of a Service for a source, which begins with its namespace; nil if there is none.
func (m measured) want(source string, service model.Key) *model.Traffic {
	namespace, _, _ := strings.Cut(source, "/")
	if o := m.wants(namespace, service); o != nil {
		return o.Traffic
	}
	return nil
}

// report makes a report without disagreements.
func (m measured) report() Report {
	r := Report{
		Seconds: m.seconds, Edges: []Edge{}, Routes: m.routes(), Retries: []Retries{}, Breakers: []Breaker{},
		Ejections: []Ejections{}, Disagreements: []Disagreement{},
	}
	for _, e := range m.view.Edges {
		r.Edges = append(r.Edges, m.edge(e))
	}
	for _, t := range totals(m.view) {
		want := m.want(t.source, t.service)
		if t.Retries+t.Unretried > 0 || want != nil && want.Retries != nil {
			r.Retries = append(r.Retries, Retries{t.source, t.service.String(), t.Retries, t.Rescued, t.Unretried})
		}
		if t.Overflows > 0 || want != nil && want.CircuitBreaker != (model.CircuitBreaker{}) {
			b := Breaker{Source: t.source, Destination: t.service.String(), Refused: t.Overflows, Open: t.state.Breakers > 0}
			if want != nil {
				b.MaxRequests = want.CircuitBreaker.MaxRequests
			}
			r.Breakers = append(r.Breakers, b)
		}
		if t.Ejections > 0 || want != nil && want.Outlier != nil {
			r.Ejections = append(r.Ejections, Ejections{Source: t.source, Destination: t.service.String(),
				Endpoints: t.state.Members, Ejected: t.Ejections, Returned: m.returned(t), OutNow: t.state.Ejected})
		}
	}
	return r
}

func (m measured) edge(e observe.Edge) Edge {
	return Edge{
		Source: e.Source, Destination: e.Service.String(), Requests: e.Requests(), RPS: round(float64(e.Requests()) / m.seconds),
		Success: optional(e.Success()), P50: optional(e.Latency.Quantile(0.50)),
		P95: optional(e.Latency.Quantile(0.95)), P99: optional(e.Latency.Quantile(0.99)),
	}
}

func optional(v float64, ok bool) *float64 {
	if !ok {
		return nil
	}
	v = round(v)
	return &v
}

// round keeps four digits after the point: more would only be noise.
func round(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// total is all that a source sent to the pods of a Service, whatever subset.
type total struct {
	source  string
	service model.Key
	observe.Sample
	state    observe.State
	clusters int // that it was sent to
}

// totals adds up targets by source and Service, sorted.
func totals(v observe.View) []total {
	var out []total
	for _, t := range v.Targets { // sorted by source and Service
		if n := len(out); n == 0 || out[n-1].source != t.Source || out[n-1].service != t.Service {
			out = append(out, total{source: t.Source, service: t.Service})
		}
		last := &out[len(out)-1]
		last.Add(&t.Sample)
		last.clusters++
		last.state.Ejected += t.State.Ejected
		last.state.Members += t.State.Members
		last.state.Breakers += t.State.Breakers
	}
	return out
}

// returned is how often endpoints came back: those that are still out, for whichever pod of the source, have not.
func (m measured) returned(t total) uint64 {
	out := uint64(0)
	for _, n := range m.nodes.Targets {
		if n.Service == t.service && m.source(n.Source) == t.source {
			out += n.State.Ejected
		}
	}
	return t.Ejections - min(out, t.Ejections)
}

// destination is where a cluster's requests go.
type destination struct {
	service model.Key
	subset  string
}

// routes are the routes that policies name, with the share that each of their targets got.
func (m measured) routes() []Route {
	out := []Route{}
	for _, source := range m.flows() {
		for _, f := range source.flows {
			if len(f.shares) == 0 || f.implicit {
				continue
			}
			r := Route{Source: source.name, Service: f.service.String(), Route: f.route, Requests: uint64(f.requests)}
			var sum float64
			got := make([]float64, len(f.shares))
			for i, s := range f.shares {
				// A cluster that several routes send to counts for each of them as much as it should.
				got[i] = source.got[s.to]
				if expected := source.expected[s.to]; expected > 0 {
					got[i] *= f.requests * s.part / expected
				}
				sum += got[i]
			}
			for i, s := range f.shares {
				r.Targets = append(r.Targets, Target{Destination: s.to.service.String(), Subset: s.to.subset,
					Wanted: round(s.part), Share: round(got[i] / max(sum, 1))})
			}
			out = append(out, r)
		}
	}
	return out
}

// source is what one workload sent, by route and by cluster.
type source struct {
	name     string
	flows    []flow
	got      map[destination]float64 // requests that each cluster got
	expected map[destination]float64 // and should have got, by the routes' weights
	variance map[destination]float64
}

// flow is what one route took.
type flow struct {
	service  model.Key
	route    string
	requests float64
	shares   []share
	implicit bool // no policy names it: the Service itself
}

// share is a part of a route, by the policy.
type share struct {
	to   destination
	part float64
}

// flows joins what routes took with what their policies do with it.
func (m measured) flows() []source {
	sources := map[string]*source{}
	at := func(name string) *source {
		if sources[name] == nil {
			sources[name] = &source{name: name, got: map[destination]float64{}, expected: map[destination]float64{},
				variance: map[destination]float64{}}
		}
		return sources[name]
	}
	for _, r := range m.view.Routes {
		f := flow{service: r.Service, route: r.Route, requests: float64(r.Requests())}
		f.shares, f.implicit = sharesOf(m.want(r.Source, r.Service), r.Service, r.Route)
		s := at(r.Source)
		s.flows = append(s.flows, f)
		for _, sh := range f.shares {
			s.expected[sh.to] += f.requests * sh.part
			s.variance[sh.to] += f.requests * sh.part * (1 - sh.part)
		}
	}
	for _, t := range m.view.Targets {
		at(t.Source).got[destination{t.Service, t.Subset}] += float64(t.Requests())
	}
	var out []source
	for _, s := range sources {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b source) int { return cmp.Compare(a.name, b.name) })
	return out
}

// sharesOf is how a route divides its requests. A route that no policy names is the Service itself.
func sharesOf(t *model.Traffic, service model.Key, route string) (shares []share, implicit bool) {
	whole := []share{{to: destination{service: service}, part: 1}}
	if t == nil {
		return whole, true
	}
	i := slices.IndexFunc(t.Routes, func(r model.Route) bool { return statistic(r.Name) == route })
	switch {
	case i < 0:
		return whole, true
	case t.Routes[i].Redirect != nil || t.Routes[i].Direct != nil:
		return nil, false
	case len(t.Routes[i].To) == 0:
		return whole, false
	}
	var sum float64
	for _, to := range t.Routes[i].To {
		sum += float64(to.Weight)
	}
	for _, to := range t.Routes[i].To {
		if to.Missing == "" {
			shares = append(shares, share{destination{to.Service, statistic(to.Subset.String())}, float64(to.Weight) / max(sum, 1)})
		}
	}
	return shares, false
}

// statistic is a name as it comes back in statistics, which have no dots in names.
func statistic(name string) string { return strings.ReplaceAll(name, ".", "_") }
