package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the signer's.
type metrics struct {
	issues   *prometheus.CounterVec
	refusals *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		issues:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_identity_issues_total", Help: "What was issued, by kind: svid, serving or jwt."}, []string{"kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heddle_identity_refusals_total", Help: "What was refused, by the code that the caller was told."}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "heddle_identity_issue_seconds", Help: "Time from a request to what it asked for, attestation included, by kind.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}, []string{"kind"}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_identity_authority_expiry_seconds", Help: "When the first root of the trust bundle expires, in seconds since 1970; 0 while there is none.",
	}, s.firstExpiry)
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_identity_connected_sidecars", Help: "Sidecars that wait for a new trust bundle.",
	}, func() float64 { return float64(s.connected.count()) })
	leaf := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_identity_sidecar_expiry_seconds",
		Help: "When the first certificate of a connected sidecar expires, in seconds since 1970; 0 without sidecars.",
	}, s.firstLeaf)
	if r != nil {
		r.MustRegister(m.issues, m.refusals, m.seconds, expiry, connected, leaf)
	}
	return m
}

func (m *metrics) issued(kind string, since time.Duration) {
	m.issues.WithLabelValues(kind).Inc()
	m.seconds.WithLabelValues(kind).Observe(since.Seconds())
}

// refused counts a refusal. Codes are constants of the program, so there is a bounded number of them.
func (m *metrics) refused(code string) { m.refusals.WithLabelValues(code).Inc() }

func (s *Server) firstLeaf() float64 {
	var first time.Time
	for _, c := range s.connected.Sidecars() {
		if c.Connected && (first.IsZero() || c.NotAfter.Before(first)) {
			first = c.NotAfter
		}
	}
	if first.IsZero() {
		return 0
	}
	return float64(first.Unix())
}

func (s *Server) firstExpiry() float64 {
	bundle, _, err := s.options.Authorities.Bundle()
	if err != nil {
		return 0
	}
	var first time.Time
	for _, root := range bundle.X509Authorities() {
		if first.IsZero() || root.NotAfter.Before(first) {
			first = root.NotAfter
		}
	}
	return float64(first.Unix())
}
