package demo

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
)

// disagreements compares what was measured with what the policies ask for. What it expects it reads from the
// policies, so it follows whoever edits them.
func (m measured) disagreements(known accounts) []Disagreement {
	out := append([]Disagreement{}, m.checkSplits()...)
	out = append(out, m.checkTimeouts()...)
	for _, t := range totals(m.nodes) { // limits hold for each sidecar by itself
		want := m.want(t.source, t.service)
		if want == nil {
			continue
		}
		for _, check := range []func(total, *model.Traffic, accounts) *Disagreement{checkRetries, checkBreaker, checkOutliers} {
			if d := check(t, want, known); d != nil {
				out = append(out, *d)
			}
		}
	}
	return out
}

// checkCounts compares, from the start to the end, what the callers' sidecars counted with what the applications know:
// as many requests as the callers had answers, and no failure that nothing explains.
func (m measured) checkCounts(known accounts) []Disagreement {
	var out []Disagreement
	for _, e := range m.nodes.Edges {
		c := known.calls[call{e.Source, e.Service}]
		if off(e.Requests(), c.answered) || off(c.answered, e.Requests()) {
			out = append(out, Disagreement{
				Policy:   "none",
				Wanted:   fmt.Sprintf("%d answers that %s had from %s", c.answered, e.Source, e.Service),
				Measured: fmt.Sprintf("%d requests", e.Requests()),
			})
		}
		explained := c.failures + e.Aborted
		for _, t := range m.nodes.Targets {
			if t.Source == e.Source && t.Service == e.Service {
				explained += t.Overflows + t.Timeouts + t.TryTimeouts
			}
		}
		if off(e.Failures(), explained) {
			out = append(out, Disagreement{
				Policy:   "none",
				Wanted:   fmt.Sprintf("at most the %d failures of %s at %s that applications, breakers and timeouts explain", explained, e.Source, e.Service),
				Measured: fmt.Sprintf("%d failures", e.Failures()),
			})
		}
	}
	return out
}

// off says that n is more than it may be, with what can be under way when one counts.
func off(n, most uint64) bool { return n > most+2+most/100 }

// sigmas is how far chance may take a share from its weight: one check in 16,000 is wrong.
const sigmas = 4

// checkSplits holds each cluster's requests against what the weights of all routes that lead there make of the
// requests that these routes took.
func (m measured) checkSplits() []Disagreement {
	var out []Disagreement
	for _, s := range m.flows() {
		for _, f := range s.flows {
			for _, sh := range f.shares {
				wanted, got := s.expected[sh.to], s.got[sh.to]
				// Two counters of one sidecar may be read a request apart.
				if math.Abs(got-wanted) <= sigmas*math.Sqrt(s.variance[sh.to])+2+wanted/100 {
					continue
				}
				out = append(out, Disagreement{
					Policy:   policyOf(m.want(s.name, f.service), "routes", f.service),
					Wanted:   fmt.Sprintf("%.0f of %.0f requests of %s on route %s to %s", wanted, f.requests, s.name, f.route, sh.to),
					Measured: fmt.Sprintf("%.0f", got),
				})
			}
		}
	}
	return out
}

func (d destination) String() string { return strings.TrimSpace(d.service.String() + " " + d.subset) }

// policyOf names the document that a field of a Service's policy came from.
func policyOf(t *model.Traffic, field model.Field, service model.Key) string {
	if t != nil {
		if o := t.Origin(field); !o.IsZero() {
			return o.Key.String() + " " + o.Item
		}
	}
	return "none, for " + service.String()
}

// fewLate is how many requests may be late because their sidecar waited for a processor, however few there were.
const fewLate = 5

// checkTimeouts holds latencies against the longest timeout of a Service's routes. Buckets are coarse.
func (m measured) checkTimeouts() []Disagreement {
	var out []Disagreement
	for _, e := range m.view.Edges {
		want := m.want(e.Source, e.Service)
		share := min(0.99, 1-fewLate/float64(e.Latency.Count()))
		late, ok := e.Latency.Quantile(share)
		limit := longest(want)
		if !ok || share <= 0 || limit == 0 || late <= 1.2*float64(limit.Milliseconds())+100 {
			continue
		}
		out = append(out, Disagreement{
			Policy:   policyOf(want, "timeout", e.Service),
			Wanted:   fmt.Sprintf("requests of %s to %s end after %s", e.Source, e.Service, limit),
			Measured: fmt.Sprintf("%.0f %% took up to %.0f ms", 100*share, late),
		})
	}
	return out
}

// longest is the longest time that a request may take; 0 if any may take for ever.
func longest(t *model.Traffic) time.Duration {
	if t == nil {
		return 0
	}
	limit := t.Timeout
	for _, r := range t.Routes {
		if r.Timeout == nil {
			continue
		}
		if *r.Timeout == 0 || limit == 0 {
			return 0
		}
		limit = max(limit, *r.Timeout)
	}
	return limit
}

// attempts is the most further tries that any route of a Service makes.
func attempts(t *model.Traffic) uint32 {
	var n uint32
	if t.Retries != nil {
		n = t.Retries.Attempts
	}
	for _, r := range t.Routes {
		if r.Retries != nil {
			n = max(n, r.Retries.Attempts)
		}
	}
	return n
}

// checkRetries: none unless asked for, and then no more than asked for; and some, if there were failures to repeat.
func checkRetries(t total, want *model.Traffic, known accounts) *Disagreement {
	n := attempts(want)
	d := &Disagreement{
		Policy:   policyOf(want, "retries", t.service),
		Measured: fmt.Sprintf("%d retries of %d requests", t.Retries, t.Requests()),
	}
	failed := 0
	for s, r := range known.serving {
		if s.caller == t.source && s.service == t.service {
			failed += r.all
		}
	}
	switch {
	case t.Retries > uint64(n)*max(t.Requests(), 1):
		d.Wanted = fmt.Sprintf("at most %d retries of a request of %s to %s", n, t.source, t.service)
	// A few may have met the end of their time, or of the budget.
	case t.Retries == 0 && failed >= fewFailures && repeats(want, http.StatusServiceUnavailable):
		d.Wanted = fmt.Sprintf("some of the %d answers 503 that %s had from %s repeated", failed, t.source, t.service)
	default:
		return nil
	}
	return d
}

const fewFailures = 5

// repeats says whether every request of a Service is repeated that is answered with a status, as long as a budget lasts.
func repeats(t *model.Traffic, status uint32) bool {
	covers := func(r *model.Retries) bool { return r != nil && r.Attempts > 0 && slices.Contains(r.Statuses, status) }
	if slices.ContainsFunc(t.Routes, func(r model.Route) bool { return r.Retries != nil && !covers(r.Retries) }) {
		return false
	}
	return covers(t.Retries)
}

// checkBreaker: a breaker refuses only if there is one, and then no more gets through than it says.
func checkBreaker(t total, want *model.Traffic, known accounts) *Disagreement {
	b := want.CircuitBreaker
	bound := int(b.MaxRequests) * t.clusters
	arrived := known.calls[call{t.source, t.service}].arrived.peak
	d := &Disagreement{Policy: policyOf(want, "circuitBreaker", t.service)}
	switch {
	case b == (model.CircuitBreaker{}) && t.Overflows > 0:
		d.Wanted = fmt.Sprintf("no bound on what %s sends to %s", t.source, t.service)
		d.Measured = fmt.Sprintf("%d requests refused", t.Overflows)
	// A request that was given up may be with the application for a moment longer.
	case bound > 0 && arrived > bound+2:
		d.Wanted = fmt.Sprintf("at most %d requests of %s to %s at once", bound, t.source, t.service)
		d.Measured = fmt.Sprintf("%d reached the applications at once", arrived)
	default:
		return nil
	}
	return d
}

// checkOutliers: endpoints are taken out only if a policy asks for it, and are when the applications know of a long
// enough run of failures.
func checkOutliers(t total, want *model.Traffic, known accounts) *Disagreement {
	o := want.Outlier
	d := &Disagreement{
		Policy:   policyOf(want, "outlierDetection", t.service),
		Measured: fmt.Sprintf("%d taken out", t.Ejections),
	}
	if o == nil {
		if t.Ejections == 0 {
			return nil
		}
		d.Wanted = fmt.Sprintf("no endpoint of %s taken out of use", t.service)
		return d
	}
	longest := 0
	for s, r := range known.serving {
		if s.caller == t.source {
			longest = max(longest, r.longest)
		}
	}
	// Answers that are on their way when the last straw falls make a run longer.
	if o.Consecutive5xx == 0 || longest < int(o.Consecutive5xx)+2 || !mayEject(o, t.state) || t.Ejections > 0 {
		return nil
	}
	d.Wanted = fmt.Sprintf("an endpoint of %s taken out by %s after %d failures in a row; there were %d",
		t.service, t.source, o.Consecutive5xx, longest)
	return d
}

// mayEject says whether the policy lets at least one endpoint be taken out.
func mayEject(o *model.OutlierDetection, s observe.State) bool {
	return s.Members*uint64(o.MaxEjectionPercent) >= 100
}
