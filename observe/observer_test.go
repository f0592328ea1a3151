package observe

import (
	"fmt"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/model"
)

// said is a message as sidecars send it: one family per metric.
func said(families ...*dto.MetricFamily) *metricsv3.StreamMetricsMessage {
	return &metricsv3.StreamMetricsMessage{EnvoyMetrics: families}
}

func metric(name string, m *dto.Metric, tags ...string) *dto.MetricFamily {
	for i := 0; i < len(tags); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(tags[i]), Value: proto.String(tags[i+1])})
	}
	return &dto.MetricFamily{Name: proto.String(name), Metric: []*dto.Metric{m}}
}

func counter(name string, v float64, tags ...string) *dto.MetricFamily {
	return metric(name, &dto.Metric{Counter: &dto.Counter{Value: proto.Float64(v)}}, tags...)
}

func gauge(name string, v float64, tags ...string) *dto.MetricFamily {
	return metric(name, &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(v)}}, tags...)
}

func times(name string, ms []float64, tags ...string) *dto.MetricFamily {
	h := &dto.Histogram{SampleCount: proto.Uint64(uint64(len(ms)))}
	var below uint64
	for i, n := range histogramOf(ms...).counts[:len(bounds())] {
		below += n
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: proto.Float64(bounds()[i]), CumulativeCount: proto.Uint64(below)})
	}
	return metric(name, &dto.Metric{Histogram: h}, tags...)
}

// clock is a time that a test sets.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time { return c.now }

func catalog() model.Key { return model.Key{Namespace: "shop", Name: "catalog"} }

func TestAnEdgeIsWhatTheCallerMetAndTargetsAreWhereItsRequestsWent(t *testing.T) {
	c := newClock()
	o := New(Options{Now: c.Now})
	const listener, v1, v2 = "ob|shop|catalog|8080", "ob|shop|catalog|8080|version=v1", "ob|shop|catalog|8080|version=v2"
	o.take("shop/web-1", said(
		counter("http.downstream_rq_xx", 95, "heddle.listener", listener, "envoy.response_code_class", "2"),
		counter("http.downstream_rq_xx", 5, "heddle.listener", listener, "envoy.response_code_class", "5"),
		times("http.downstream_rq_time", []float64{10, 12, 14, 16}, "heddle.listener", listener),
		counter("cluster.upstream_rq_xx", 90, "heddle.cluster", v1, "envoy.response_code_class", "2"),
		counter("cluster.upstream_rq_retry", 7, "heddle.cluster", v1),
		counter("cluster.upstream_rq_retry_success", 6, "heddle.cluster", v1),
		counter("cluster.upstream_rq_pending_overflow", 3, "heddle.cluster", v1),
		counter("cluster.outlier_detection.ejections_enforced_total", 1, "heddle.cluster", v1),
		gauge("cluster.outlier_detection.ejections_active", 1, "heddle.cluster", v1),
		gauge("cluster.membership_total", 2, "heddle.cluster", v1),
		gauge("cluster.membership_healthy", 1, "heddle.cluster", v1),
		counter("cluster.upstream_rq_xx", 10, "heddle.cluster", v2, "envoy.response_code_class", "2"),
		counter("vhost.route.upstream_rq_xx", 100, "heddle.host", "shop/catalog", "heddle.route", "canary", "envoy.response_code_class", "2"),
		counter("server.total_connections", 4),
	))

	got := o.View(time.Time{}, nil)

	want := View{
		Edges: []Edge{{Source: "shop/web-1", Service: catalog(), Port: 8080,
			Sample: Sample{Classes: [6]uint64{2: 95, 5: 5}, Latency: histogramOf(10, 12, 14, 16)}}},
		Targets: []Target{
			{Source: "shop/web-1", Service: catalog(), Port: 8080, Subset: "version=v1",
				Sample: Sample{Classes: [6]uint64{2: 90}, Retries: 7, Rescued: 6, Overflows: 3, Ejections: 1},
				State:  State{Ejected: 1, Members: 2, Healthy: 1}},
			{Source: "shop/web-1", Service: catalog(), Port: 8080, Subset: "version=v2", Sample: Sample{Classes: [6]uint64{2: 10}}},
		},
		Routes: []Route{{Source: "shop/web-1", Service: catalog(), Route: "canary", Sample: Sample{Classes: [6]uint64{2: 100}}}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Histogram{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s, ok := got.Edges[0].Success(); !ok || s != 0.95 {
		t.Errorf("success %v %v, want 0.95", s, ok)
	}
}

func TestAFailedGRPCCallIsNoSuccessThoughHTTPSaysSo(t *testing.T) {
	o := New(Options{Now: newClock().Now})
	o.take("shop/web-1", said(
		counter("http.downstream_rq_xx", 10, "heddle.listener", "ob|shop|catalog|9090", "envoy.response_code_class", "2"),
		counter("cluster.grpc.14", 3, "heddle.cluster", "ob|shop|catalog|9090|"),
		counter("cluster.grpc.5", 2, "heddle.cluster", "ob|shop|catalog|9090|"), // not found: the caller's affair
		counter("cluster.grpc.0", 5, "heddle.cluster", "ob|shop|catalog|9090|"),
	))
	if s, ok := o.View(time.Time{}, nil).Edges[0].Success(); !ok || s != 0.7 {
		t.Errorf("success %v %v, want 0.7", s, ok)
	}
}

func TestNoTrafficIsNoSuccess(t *testing.T) {
	var s Sample
	if share, ok := s.Success(); ok {
		t.Errorf("got %v", share)
	}
}

func TestSidecarsOfOneSourceAreAddedUp(t *testing.T) {
	o := New(Options{Now: newClock().Now})
	for i, ms := range [][]float64{{1, 1}, {100, 100}} {
		o.take(fmt.Sprintf("shop/web-%d", i), said(
			counter("http.downstream_rq_xx", 2, "heddle.listener", "ob|shop|catalog|80", "envoy.response_code_class", "2"),
			times("http.downstream_rq_time", ms, "heddle.listener", "ob|shop|catalog|80"),
		))
	}
	v := o.View(time.Time{}, func(string) string { return "web" })
	if len(v.Edges) != 1 || v.Edges[0].Source != "web" || v.Edges[0].Requests() != 4 || v.Edges[0].Latency.Count() != 4 {
		t.Errorf("got %+v, want one edge with the 4 requests of both", v.Edges)
	}
}

func TestOnlyThePeriodAskedForIsSummedAndOldSlotsAreForgotten(t *testing.T) {
	c := newClock()
	o := New(Options{Now: c.Now, Slot: time.Second, Keep: 10 * time.Second})
	begin := c.now
	for range 30 {
		o.take("shop/web-1", said(
			counter("http.downstream_rq_xx", 1, "heddle.listener", "ob|shop|catalog|80", "envoy.response_code_class", "2")))
		c.now = c.now.Add(time.Second)
	}
	if n := o.View(c.now.Add(-5*time.Second), nil).Edges[0].Requests(); n != 5 {
		t.Errorf("%d requests in the last 5 s, want 5", n)
	}
	if n := o.View(begin, nil).Edges[0].Requests(); n != 10 {
		t.Errorf("%d requests remembered, want 10", n)
	}
	if n := o.Totals(nil).Edges[0].Requests(); n != 30 {
		t.Errorf("%d requests in all, want 30", n)
	}
}

func TestMemoryIsBoundedWhateverSidecarsName(t *testing.T) {
	c := newClock()
	o := New(Options{Now: c.Now, Slot: time.Second, MaxSamples: 100})
	for i := range 1000 {
		name := fmt.Sprintf("ob|shop|s%d|80", i)
		o.take("shop/web-1", said(
			counter("http.downstream_rq_xx", 1, "heddle.listener", name, "envoy.response_code_class", "2"),
			gauge("cluster.membership_total", 1, "heddle.cluster", name+"|"),
		))
		if i%50 == 0 {
			c.now = c.now.Add(time.Second)
		}
	}
	if o.window.samples > 100 || len(o.window.states) > 100 || len(o.window.totals) > 100 {
		t.Errorf("%d samples, %d states and %d totals are kept, want at most 100", o.window.samples, len(o.window.states), len(o.window.totals))
	}
	// In one slot there is nothing older to forget.
	for i := range 1000 {
		o.take("shop/web-1", said(counter("http.downstream_rq_xx", 1, "heddle.listener", fmt.Sprintf("ob|shop|t%d|80", i),
			"envoy.response_code_class", "2")))
	}
	if v := o.View(time.Time{}, nil); v.Dropped == 0 || len(v.Edges) > 100 {
		t.Errorf("%d edges, %d dropped: what found no place must be counted", len(v.Edges), v.Dropped)
	}
}

func TestAnEndpointThatIsOutIsSeenWithoutAnyTraffic(t *testing.T) {
	o := New(Options{Now: newClock().Now})
	out := gauge("cluster.outlier_detection.ejections_active", 1, "heddle.cluster", "ob|shop|catalog|80|")
	o.take("shop/web-1", said(out))
	if v := o.View(time.Time{}, nil); len(v.Targets) != 1 || v.Targets[0].State.Ejected != 1 {
		t.Errorf("got %+v", v.Targets)
	}
	o.leave("shop/web-1")
	if v := o.View(time.Time{}, nil); len(v.Targets) != 0 {
		t.Errorf("what a sidecar that is gone last said is still shown: %+v", v.Targets)
	}
}

// heard notes the streaks that it is told of.
type heard []string

func (h *heard) Streak(node string, port uint16) { *h = append(*h, fmt.Sprintf("%s:%d", node, port)) }

func TestAStreakOfFailuresIsReportedOncePerPort(t *testing.T) {
	var h heard
	o := New(Options{Now: newClock().Now, Streaks: &h})
	streak := "cluster.outlier_detection.ejections_detected_consecutive_5xx"
	o.take("shop/web-1", said(
		counter(streak, 2, "heddle.cluster", "in|8080|h1"),
		counter(streak, 1, "heddle.cluster", "in|8080|same"),
		counter(streak, 0, "heddle.cluster", "in|9090|h2"),
		counter(streak, 1, "heddle.cluster", "ob|shop|catalog|80|"), // a caller's ejection is no news of its own pod
		counter("cluster.outlier_detection.ejections_detected_consecutive_gateway_failure", 1, "heddle.cluster", "in|7070|h1"),
	))
	if diff := cmp.Diff(heard{"shop/web-1:8080"}, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
