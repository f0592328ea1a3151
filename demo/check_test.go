package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
)

func key(name string) model.Key { return model.Key{Namespace: "shop", Name: name} }

func version(v string) model.Labels { return model.LabelsOf(map[string]string{"version": v}) }

// ok is so many good answers.
func ok(n uint64) observe.Sample { return observe.Sample{Classes: [6]uint64{2: n}} }

// canary is a policy with two subsets by weight.
func canary(v1, v2 uint32) *model.Traffic {
	return &model.Traffic{
		Routes: []model.Route{{Name: "canary", To: []model.Target{
			{Service: key("catalog"), Subset: version("v1"), Weight: v1},
			{Service: key("catalog"), Subset: version("v2.1"), Weight: v2},
		}}},
		Origins: map[model.Field]model.Origin{"routes": {Kind: "ConfigMap", Key: key("catalog"), Item: "traffic.yaml"}},
	}
}

// measuredWith is what one front end measured of catalog under a policy.
func measuredWith(want *model.Traffic, view observe.View) measured {
	itself := func(node string) string { return node }
	return measured{seconds: 10, view: view, nodes: view, source: itself, wants: func(_ string, service model.Key) *model.Outbound {
		if service != key("catalog") || want == nil {
			return nil
		}
		return &model.Outbound{Traffic: want}
	}}
}

func split(v1, v2 uint64) observe.View {
	return observe.View{
		Routes: []observe.Route{{Source: "shop/frontend", Service: key("catalog"), Route: "canary", Sample: ok(v1 + v2)}},
		Targets: []observe.Target{
			{Source: "shop/frontend", Service: key("catalog"), Subset: "version=v1", Sample: ok(v1)},
			{Source: "shop/frontend", Service: key("catalog"), Subset: "version=v2_1", Sample: ok(v2)},
		},
	}
}

func TestAReportSaysWhatARouteShouldAndDoesDoWithItsRequests(t *testing.T) {
	got := measuredWith(canary(90, 10), split(890, 110)).report().Routes
	want := []Route{{Source: "shop/frontend", Service: "shop/catalog", Route: "canary", Requests: 1000, Targets: []Target{
		{Destination: "shop/catalog", Subset: "version=v1", Wanted: 0.9, Share: 0.89},
		{Destination: "shop/catalog", Subset: "version=v2_1", Wanted: 0.1, Share: 0.11},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestChanceIsNoDisagreementButAnotherWeightIs(t *testing.T) {
	for _, c := range []struct {
		v1, v2    uint64
		disagrees bool
	}{{900, 100, false}, {925, 75, false}, {960, 40, true}, {500, 500, true}, {1000, 0, true}} {
		got := measuredWith(canary(90, 10), split(c.v1, c.v2)).disagreements(accounts{})
		if disagrees := len(got) > 0; disagrees != c.disagrees {
			t.Errorf("%d to %d of 90 to 10: disagrees is %v: %v", c.v1, c.v2, disagrees, got)
		}
	}
	if got := measuredWith(canary(0, 10), split(30, 970)).disagreements(accounts{}); len(got) == 0 || got[0].Policy != "shop/catalog traffic.yaml" {
		t.Errorf("requests to a target of weight 0 should disagree with the document that says so; got %v", got)
	}
}

func TestAClusterOfTwoRoutesIsHeldAgainstBoth(t *testing.T) {
	want := canary(90, 10)
	want.Routes = append(want.Routes, model.Route{Name: "testers", To: []model.Target{
		{Service: key("catalog"), Subset: version("v2.1"), Weight: 1},
	}})
	view := split(900, 150) // 100 by the canary, 50 by testers
	view.Routes[0].Sample = ok(1000)
	view.Routes = append(view.Routes, observe.Route{Source: "shop/frontend", Service: key("catalog"), Route: "testers", Sample: ok(50)})
	m := measuredWith(want, view)
	if got := m.disagreements(accounts{}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	for _, r := range m.report().Routes {
		for _, target := range r.Targets {
			if diff := target.Share - target.Wanted; diff > 0.02 || diff < -0.02 {
				t.Errorf("route %s: %s wants %v, has %v", r.Route, target.Subset, target.Wanted, target.Share)
			}
		}
	}
}

// counted is a view of one front end's cluster of catalog.
func counted(s observe.Sample) observe.View {
	return observe.View{Targets: []observe.Target{{Source: "shop/frontend", Service: key("catalog"), Sample: s,
		State: observe.State{Members: 3, Healthy: 3}}}}
}

func TestWhatNoPolicyAsksForIsADisagreement(t *testing.T) {
	none := &model.Traffic{}
	for what, s := range map[string]observe.Sample{
		"retries":    {Classes: [6]uint64{2: 100}, Retries: 1},
		"refusals":   {Classes: [6]uint64{2: 100}, Overflows: 1},
		"taking out": {Classes: [6]uint64{2: 100}, Ejections: 1},
	} {
		if got := measuredWith(none, counted(s)).disagreements(accounts{}); len(got) != 1 {
			t.Errorf("%s without a policy: got %v, want one disagreement", what, got)
		}
	}
}

func TestWhatPoliciesAskForIsNoDisagreement(t *testing.T) {
	want := &model.Traffic{
		Retries:        &model.Retries{Attempts: 2},
		CircuitBreaker: model.CircuitBreaker{MaxRequests: 8},
		Outlier:        &model.OutlierDetection{Consecutive5xx: 3, MaxEjectionPercent: 40},
	}
	got := measuredWith(want, counted(observe.Sample{Classes: [6]uint64{2: 100}, Retries: 150, Overflows: 5, Ejections: 2})).
		disagreements(accounts{calls: map[call]callCount{{"shop/frontend", key("catalog")}: {arrived: gauge{peak: 8}}}})
	if len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestApplicationsWitnessABreakerThatLetsTooMuchThrough(t *testing.T) {
	want := &model.Traffic{CircuitBreaker: model.CircuitBreaker{MaxRequests: 8}}
	known := accounts{calls: map[call]callCount{{"shop/frontend", key("catalog")}: {arrived: gauge{peak: 12}}}}
	got := measuredWith(want, counted(ok(100))).disagreements(known)
	if len(got) != 1 || !strings.Contains(got[0].Measured, "12 reached") {
		t.Errorf("got %v", got)
	}
}

func TestApplicationsWitnessAFailingEndpointThatNobodyTakesOut(t *testing.T) {
	want := &model.Traffic{Outlier: &model.OutlierDetection{Consecutive5xx: 3, MaxEjectionPercent: 40}}
	known := accounts{serving: map[served]run{{"shop/frontend", "shop/catalog-1", key("catalog")}: {longest: 20}}}
	if got := measuredWith(want, counted(ok(100))).disagreements(known); len(got) != 1 {
		t.Errorf("got %v, want one disagreement", got)
	}
	want.Outlier.MaxEjectionPercent = 10 // of three: none may be taken out
	if got := measuredWith(want, counted(ok(100))).disagreements(known); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestApplicationsWitnessFailuresThatNobodyRepeats(t *testing.T) {
	retries := &model.Retries{Attempts: 2, Statuses: []uint32{503}}
	never := &model.Retries{}
	known := accounts{serving: map[served]run{{"shop/frontend", "shop/catalog-1", key("catalog")}: {all: 20}}}
	for name, c := range map[string]struct {
		want      *model.Traffic
		retried   uint64
		disagrees bool
	}{
		"none repeated":              {&model.Traffic{Retries: retries}, 0, true},
		"repeated":                   {&model.Traffic{Retries: retries}, 15, false},
		"nobody asks for it":         {&model.Traffic{}, 0, false},
		"another status":             {&model.Traffic{Retries: &model.Retries{Attempts: 2, Statuses: []uint32{500}}}, 0, false},
		"a route says not to repeat": {&model.Traffic{Retries: retries, Routes: []model.Route{{Retries: never}}}, 0, false},
	} {
		got := measuredWith(c.want, counted(observe.Sample{Classes: [6]uint64{2: 100}, Retries: c.retried})).disagreements(known)
		if disagrees := len(got) > 0; disagrees != c.disagrees {
			t.Errorf("%s: disagrees is %v: %v", name, disagrees, got)
		}
	}
}

func TestALatencyBeyondTheTimeoutIsADisagreement(t *testing.T) {
	fiveSeconds := observe.NewHistogram([]float64{1000, 4900}, []uint64{0, 10}, 10)
	for _, c := range []struct {
		limit time.Duration
		want  int
	}{{0, 0}, {time.Second, 1}, {5 * time.Second, 0}} {
		view := observe.View{Edges: []observe.Edge{{Source: "shop/frontend", Service: key("catalog"),
			Sample: observe.Sample{Classes: [6]uint64{2: 10}, Latency: fiveSeconds}}}}
		if got := measuredWith(&model.Traffic{Timeout: c.limit}, view).disagreements(accounts{}); len(got) != c.want {
			t.Errorf("5 s with a timeout of %s: got %v, want %d disagreements", c.limit, got, c.want)
		}
	}
}

func TestAFewRequestsThatWaitedForAProcessorAreNoDisagreement(t *testing.T) {
	for late, want := range map[uint64]int{fewLate: 0, 3 * fewLate: 1} {
		latency := observe.NewHistogram([]float64{100, 1000, 4900}, []uint64{60 - late, 60 - late, 60}, 60)
		view := observe.View{Edges: []observe.Edge{{Source: "shop/frontend", Service: key("catalog"),
			Sample: observe.Sample{Classes: [6]uint64{2: 60}, Latency: latency}}}}
		if got := measuredWith(&model.Traffic{Timeout: time.Second}, view).disagreements(accounts{}); len(got) != want {
			t.Errorf("%d of 60 requests are late: got %v, want %d disagreements", late, got, want)
		}
	}
}

func TestSidecarsAndApplicationsMustCountAlike(t *testing.T) {
	view := observe.View{Edges: []observe.Edge{{Source: "shop/frontend-1", Service: key("catalog"),
		Sample: observe.Sample{Classes: [6]uint64{2: 990, 5: 10}}}}}
	of := func(answered, failures uint64) accounts {
		return accounts{calls: map[call]callCount{{"shop/frontend-1", key("catalog")}: {answered: answered, failures: failures}}}
	}
	for _, c := range []struct {
		known accounts
		want  int
	}{
		{of(1000, 10), 0},
		{of(1005, 10), 0}, // some were under way
		{of(2000, 10), 1}, // half of the requests were not measured
		{of(1000, 0), 1},  // ten failures that nothing explains
	} {
		if got := measuredWith(nil, view).checkCounts(c.known); len(got) != c.want {
			t.Errorf("%+v: got %v, want %d disagreements", c.known, got, c.want)
		}
	}
}

func TestSidecarsAreHeldAgainstWhatApplicationsKnewAWhileAgo(t *testing.T) {
	start := time.Unix(0, 0)
	knows := func(n uint64) accounts { return accounts{calls: map[call]callCount{{pod: "web"}: {answered: n}}} }
	var h history
	for second, want := range []uint64{0, 0, 1, 2, 3} { // the ledger says 1 more each second
		got := h.add(start.Add(time.Duration(second)*time.Second), knows(uint64(second+1)), 2*time.Second)
		if got.calls[call{pod: "web"}].answered != want {
			t.Errorf("after %d s it is %v, want %d", second, got, want)
		}
	}
	if got := h.add(start.Add(time.Minute), knows(60), 2*time.Second); got.calls[call{pod: "web"}].answered != 5 || len(h) != 2 {
		t.Errorf("after a pause it is %v, and %d are kept", got, len(h))
	}
}

func TestTheVerdictIsAnErrorIfAnythingDisagrees(t *testing.T) {
	d := []Disagreement{{Policy: "shop/catalog traffic.yaml"}}
	for _, c := range []struct {
		since, counts []Disagreement
		want          error
	}{{nil, nil, nil}, {d, nil, ErrDisagree}, {nil, d, ErrDisagree}} {
		s := scene{since: Report{Disagreements: c.since}}
		if got := s.conclude(c.counts); !errors.Is(got, c.want) || len(s.total.Disagreements) != len(c.since)+len(c.counts) {
			t.Errorf("with %v and %v the verdict is %v, and %v is reported", c.since, c.counts, got, s.total.Disagreements)
		}
	}
}
