package controlplane

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
)

// metrics are the control plane's own. Every name begins with heddle_.
type metrics struct {
	translations *prometheus.CounterVec
	translate    prometheus.Histogram
	lag          prometheus.Histogram
	queue        prometheus.Gauge
	faults       prometheus.Counter
	proxies      prometheus.Gauge
	pushes       *prometheus.CounterVec
	acks         *prometheus.CounterVec
	nacks        *prometheus.CounterVec
	problems     *prometheus.GaugeVec
	health       *prometheus.CounterVec
	refusals     *prometheus.CounterVec
}

// Why a stream of a sidecar is not served.
const (
	deniedHandshake  = "handshake"   // no TLS 1.3, or no certificate that can be read; for others the reason is an identity.Code
	deniedNode       = "node"        // it calls itself by another pod's name
	deniedSecondNode = "second-node" // it began to call itself otherwise on a stream
	deniedPod        = "pod"         // its pod has another UID or account by now
	deniedUnknownPod = "pod-unknown" // its pod has gone, or is not known yet
)

func newMetrics(r prometheus.Registerer) *metrics {
	seconds := prometheus.ExponentialBuckets(0.00001, 4, 12) // 10 us to 42 s
	m := &metrics{
		translations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_translations_total", Help: "Views translated, by kind."}, []string{"kind"}),
		translate:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "heddle_translate_seconds", Help: "Time from a batch of events to its publication.", Buckets: seconds}),
		lag:          prometheus.NewHistogram(prometheus.HistogramOpts{Name: "heddle_source_lag_seconds", Help: "Time that a batch of events waited for the loop.", Buckets: seconds}),
		queue:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "heddle_queue_depth", Help: "Batches of events that wait for the loop."}),
		faults:       prometheus.NewCounter(prometheus.CounterOpts{Name: "heddle_translation_faults_total", Help: "Resources that were made but not fit to publish. Any is a bug."}),
		proxies:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "heddle_connected_proxies", Help: "Sidecars with a stream."}),
		pushes:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_xds_pushes_total", Help: "Responses sent, by type."}, []string{"type"}),
		acks:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_xds_acks_total", Help: "Responses acknowledged, by type."}, []string{"type"}),
		nacks:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_xds_nacks_total", Help: "Responses refused, by type."}, []string{"type"}),
		problems:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "heddle_policy_problems", Help: "Problems of policies that hold now, by severity."}, []string{"severity"}),
	}
	m.health = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_health_reports_total", Help: "What sidecars reported of their own applications."}, []string{"reason", "healthy"})
	m.refusals = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_sidecar_refusals_total", Help: "Connections and streams of sidecars that were refused, by reason."}, []string{"reason"})
	r.MustRegister(m.refusals, m.health, m.translations, m.translate, m.lag, m.queue, m.faults, m.proxies, m.pushes, m.acks, m.nacks, m.problems)
	return m
}

func (m *metrics) translated(kind string) { m.translations.WithLabelValues(kind).Inc() }

func (m *metrics) denied(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *metrics) reported(r model.HealthReport) {
	m.health.WithLabelValues(string(r.Reason), strconv.FormatBool(r.Healthy)).Inc()
}

func (m *metrics) applied(since time.Time) { m.translate.Observe(time.Since(since).Seconds()) }

// watch adds whether the source answers, for sources that can tell.
func (m *metrics) watch(r prometheus.Registerer, status func() kube.Status) {
	if status == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_source_connected", Help: "1 while the API server answers; what was known is served while it does not.",
	}, func() float64 {
		if status().Connected {
			return 1
		}
		return 0
	}))
}

// unhealthy is a metric of the applications that are known not to work, asked for when somebody reads it.
type unhealthy struct{ plane *Plane }

func unhealthyDesc() *prometheus.Desc {
	return prometheus.NewDesc("heddle_unhealthy", "1 for each port of a pod that callers leave alone, or use last, as its own sidecar found it not to work.",
		[]string{"namespace", "pod", "port", "reason"}, nil)
}

// Describe implements prometheus.Collector.
func (unhealthy) Describe(to chan<- *prometheus.Desc) { to <- unhealthyDesc() }

// Collect implements prometheus.Collector.
func (u unhealthy) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var all []model.HealthReport
	if err := u.plane.call(ctx, func() { all = u.plane.publisher.state.Unhealthy() }); err != nil {
		return // it has not begun, or is stopping
	}
	for _, r := range all {
		to <- prometheus.MustNewConstMetric(unhealthyDesc(), prometheus.GaugeValue, 1,
			r.Pod.Namespace, r.Pod.Name, strconv.Itoa(int(r.Port)), string(r.Reason))
	}
}
