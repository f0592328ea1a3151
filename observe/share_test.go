package observe

import (
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// called says that one request was made to each of some Services.
func called(prefix string, services int) (families []*dto.MetricFamily) {
	for i := range services {
		listener := fmt.Sprintf("ob|shop|%s%d|80", prefix, i)
		families = append(families, counter("http.downstream_rq_xx", 1, "heddle.listener", listener, "envoy.response_code_class", "2"),
			gauge("cluster.membership_total", 1, "heddle.cluster", listener+"|"))
	}
	return families
}

func TestANodeThatNamesTooMuchKeepsNoOtherOut(t *testing.T) {
	for name, later := range map[string]time.Duration{"at once": 0, "in a later slot": time.Second} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			o := New(Options{Now: c.Now, Slot: time.Second, MaxSamples: 100})
			o.take("shop/early-1", said(called("catalog", 5)...))
			o.take("evil/pod-1", said(called("none", 1000)...))
			c.now = c.now.Add(later)
			o.take("shop/web-1", said(called("catalog", 5)...))

			if len(o.window.totals) > 100 || len(o.window.states) > 100 || o.window.samples > 100 {
				t.Errorf("%d totals, %d states, %d samples are kept, want at most 100", len(o.window.totals), len(o.window.states), o.window.samples)
			}
			if n := o.window.statesHeld["evil/pod-1"]; n != 10 {
				t.Errorf("%d states of the one that names too much, want 10", n)
			}
			for what, v := range map[string]View{"the period": o.View(time.Time{}, nil), "totals": o.Totals(nil)} {
				got := map[string]int{}
				for _, e := range v.Edges {
					got[e.Source]++
				}
				if got["shop/early-1"] != 5 || got["shop/web-1"] != 5 || v.Dropped == 0 {
					t.Errorf("%s: %v, %d dropped; want all 5 edges of the others", what, got, v.Dropped)
				}
			}
		})
	}
}

func TestWhatNodesHoldIsTrackedThroughAllThatIsForgotten(t *testing.T) {
	c := newClock()
	o := New(Options{Now: c.Now, Slot: time.Second, Keep: 5 * time.Second, MaxSamples: 100})
	for i := range 40 {
		o.take(fmt.Sprintf("shop/web-%d", i%7), said(called(fmt.Sprint("s", i%3, "-"), 1+i*5%37)...))
		c.now = c.now.Add(300 * time.Millisecond)
		total, samples := 0, 0
		for _, slot := range o.window.slots {
			samples += len(slot.samples)
		}
		for _, n := range o.window.held {
			total += n
		}
		if total != samples || samples != o.window.samples || samples > 100 {
			t.Fatalf("after %d messages %d samples are there, %d counted, %d by node", i+1, samples, o.window.samples, total)
		}
	}
}

func TestANodeMayUseTheRoomThatNobodyElseNeeds(t *testing.T) {
	o := New(Options{Now: newClock().Now, MaxSamples: 100})
	o.take("shop/web-1", said(called("catalog", 90)...))
	if n := len(o.View(time.Time{}, nil).Edges); n != 90 {
		t.Errorf("%d edges, want 90", n)
	}
}

func TestASidecarThatCallsAThousandServicesFindsRoomForAll(t *testing.T) {
	o := New(Options{Now: newClock().Now})
	families := called("catalog", 1000)
	for i := range 1000 {
		families = append(families,
			counter("cluster.upstream_rq_xx", 1, "heddle.cluster", fmt.Sprintf("ob|shop|catalog%d|80|", i), "envoy.response_code_class", "2"),
			counter("vhost.route.upstream_rq_xx", 1, "heddle.host", fmt.Sprintf("shop/catalog%d", i), "heddle.route", "default", "envoy.response_code_class", "2"))
	}
	o.take("shop/web-1", said(families...))
	v := o.Totals(nil)
	if v.Dropped != 0 || len(v.Edges) != 1000 || len(v.Targets) != 1000 || len(v.Routes) != 1000 || len(o.window.states) != 1000 {
		t.Errorf("%d edges, %d targets, %d routes, %d states, %d dropped", len(v.Edges), len(v.Targets), len(v.Routes), len(o.window.states), v.Dropped)
	}
}

func TestWhatIsTooLargeToBeASidecarsIsDroppedAndCounted(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	for name, family := range map[string]*dto.MetricFamily{
		"a name":  counter("http.downstream_cx_total", 1, "heddle.listener", "ob|shop|"+long+"|80"),
		"a state": gauge("cluster.membership_total", 1, "heddle.cluster", "ob|shop|"+long+"|80|"),
		"a port":  counter("cluster.upstream_rq_xx", 1, "heddle.cluster", "in|"+long+"|h1", "envoy.response_code_class", "2"),
		"a route": counter("vhost.route.upstream_rq_xx", 1, "heddle.host", "shop/catalog", "heddle.route", long, "envoy.response_code_class", "2"),
		"buckets": metric("http.downstream_rq_time", &dto.Metric{Histogram: &dto.Histogram{SampleCount: proto.Uint64(1), Bucket: make([]*dto.Bucket, 10_000)}},
			"heddle.listener", "ob|shop|catalog|80"),
	} {
		t.Run(name, func(t *testing.T) {
			o := New(Options{Now: newClock().Now})
			o.take("evil/pod-1", said(family))
			if w := &o.window; w.samples > 0 || len(w.totals) > 0 || len(w.states) > 0 || w.dropped != 1 {
				t.Errorf("%d samples, %d totals and %d states are kept, %d dropped; want 1 dropped and nothing kept", w.samples, len(w.totals), len(w.states), w.dropped)
			}
		})
	}
}
