package observe

import (
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/heddle-mesh/heddle/model"
)

// kind is what a series is about.
type kind uint8

const (
	edges    kind = iota // a caller's listener for a Service port
	targets              // a caller's cluster
	routes               // a route of a Service
	received             // a port of the sidecar's own pod
)

// series is one thing that one sidecar counts. Names are kept as they come, since most are never looked at.
type series struct {
	node string
	kind kind
	name string // ob|namespace|service|port|subset, namespace/service, or in|port
	part string // the route's name
}

// batch is what one message says, by what it is about.
type batch map[series]*reading

// reading is a difference and, if it is known, a state.
type reading struct {
	sample Sample
	state  *State
}

func (b batch) at(s series) *reading {
	r := b[s]
	if r == nil {
		r = &reading{}
		b[s] = r
	}
	return r
}

func (b batch) stateAt(s series) *State {
	r := b.at(s)
	if r.state == nil {
		r.state = &State{}
	}
	return r.state
}

// What a sidecar may claim. What is longer or finer is none of ours, and would be kept for as long as what it is about.
const (
	longestName = 600 // bytes, of a series or of a route in it; a subset by one label may take 518
	mostBuckets = 64  // of a histogram; those of injector/bootstrap have 35
)

// parse reads what a sidecar pushed. What it does not know it passes over; what is too large to be kept it counts.
func parse(node string, families []*dto.MetricFamily) (b batch, dropped uint64) {
	b = batch{}
	for _, f := range families {
		area, name, _ := strings.Cut(f.GetName(), ".")
		for _, m := range f.GetMetric() {
			l := readLabels(m)
			s, ok := seriesOf(node, area, l)
			if !ok {
				continue
			}
			if len(s.name) > longestName || len(s.part) > longestName || len(m.GetHistogram().GetBucket()) > mostBuckets {
				dropped++
				continue
			}
			switch {
			case m.GetCounter() != nil:
				if v := uint64(m.GetCounter().GetValue()); v > 0 {
					count(&b.at(s).sample, metricName(name), l.class, v)
				}
			case m.GetGauge() != nil:
				b.gauge(s, metricName(name), uint64(m.GetGauge().GetValue()))
			case m.GetHistogram().GetSampleCount() > 0 && strings.HasSuffix(name, "_rq_time"):
				r := b.at(s)
				r.sample.Latency = r.sample.Latency.plus(readHistogram(m.GetHistogram()))
			}
		}
	}
	return b, dropped
}

// labels are the tags of one metric; see injector/bootstrap for where they are cut out of its name.
type labels struct{ cluster, listener, host, route, class string }

func readLabels(m *dto.Metric) (l labels) {
	for _, pair := range m.GetLabel() {
		switch pair.GetName() {
		case "heddle.cluster":
			l.cluster = pair.GetValue()
		case "heddle.listener":
			l.listener = pair.GetValue()
		case "heddle.host":
			l.host = pair.GetValue()
		case "heddle.route":
			l.route = pair.GetValue()
		case "envoy.response_code_class":
			l.class = pair.GetValue()
		}
	}
	return l
}

// seriesOf says what a metric is about: by the first segment of its name, and its tags.
func seriesOf(node, area string, l labels) (series, bool) {
	switch {
	case area == "cluster" && strings.HasPrefix(l.cluster, "ob|"):
		return series{node: node, kind: targets, name: l.cluster}, true
	case area == "cluster" && strings.HasPrefix(l.cluster, "in|"):
		// One port has a cluster per protocol that the application may be spoken to with.
		port, _, _ := strings.Cut(l.cluster[len("in|"):], "|")
		return series{node: node, kind: received, name: "in|" + port, part: "cluster"}, true
	case strings.HasPrefix(l.listener, "ob|"):
		return series{node: node, kind: edges, name: l.listener}, true
	case strings.HasPrefix(l.listener, "in|"):
		return series{node: node, kind: received, name: l.listener}, true
	case area == "vhost" && l.host != "" && l.route != "":
		return series{node: node, kind: routes, name: l.host, part: l.route}, true
	}
	return series{}, false
}

// metricName is what is left of a name without the words that only say where it is counted.
func metricName(name string) string {
	for _, prefix := range []string{"route.", "upstream_", "downstream_"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name
}

// count puts a counter's difference where it belongs.
func count(s *Sample, name, class string, v uint64) {
	switch name {
	case "rq_xx":
		if i, err := strconv.Atoi(class); err == nil && i >= 1 && i <= 5 {
			s.Classes[i] += v
		}
	case "rq_timeout":
		s.Timeouts += v
	case "rq_per_try_timeout":
		s.TryTimeouts += v
	case "rq_retry":
		s.Retries += v
	case "rq_retry_success":
		s.Rescued += v
	case "rq_retry_overflow", "rq_retry_limit_exceeded":
		s.Unretried += v
	case "rq_active_overflow", "rq_pending_overflow", "cx_overflow":
		s.Overflows += v
	case "fault.aborts_injected":
		s.Aborted += v
	case "cx_total":
		s.Connections += v
	case "outlier_detection.ejections_enforced_total":
		s.Ejections += v
	case "outlier_detection.ejections_detected_consecutive_5xx":
		s.Streaks += v
		s.Detected += v
	default:
		if strings.HasPrefix(name, "outlier_detection.ejections_detected_") {
			s.Detected += v
		}
		if status, ok := strings.CutPrefix(name, "grpc."); ok && failedGRPC(status) {
			s.GRPCFailed += v
		}
	}
}

// failedGRPC says whether a gRPC status is the server's fault: unknown, deadline exceeded, internal, unavailable,
// data loss (https://grpc.io/docs/guides/status-codes/).
func failedGRPC(status string) bool {
	switch status {
	case "2", "4", "13", "14", "15":
		return true
	}
	return false
}

// gauge puts a state where it belongs.
func (b batch) gauge(s series, name string, v uint64) {
	switch name {
	case "outlier_detection.ejections_active":
		b.stateAt(s).Ejected = v
	case "membership_total":
		b.stateAt(s).Members = v
	case "membership_healthy":
		b.stateAt(s).Healthy = v
	default:
		if strings.HasPrefix(name, "circuit_breakers.") && strings.HasSuffix(name, "_open") {
			b.stateAt(s).Breakers += v
		}
	}
}

func readHistogram(h *dto.Histogram) Histogram {
	bounds := make([]float64, len(h.GetBucket()))
	counts := make([]uint64, len(h.GetBucket()))
	for i, b := range h.GetBucket() {
		bounds[i], counts[i] = b.GetUpperBound(), b.GetCumulativeCount()
	}
	return NewHistogram(bounds, counts, h.GetSampleCount())
}

// service reads ob|namespace|service|port and what may follow.
func service(name string) (key model.Key, port uint16, subset string, ok bool) {
	parts := strings.SplitN(name, "|", 5)
	if len(parts) < 4 || parts[0] != "ob" {
		return model.Key{}, 0, "", false
	}
	n, err := strconv.ParseUint(parts[3], 10, 16)
	if err != nil {
		return model.Key{}, 0, "", false
	}
	if len(parts) == 5 {
		subset = parts[4]
	}
	return model.Key{Namespace: parts[1], Name: parts[2]}, uint16(n), subset, true
}
