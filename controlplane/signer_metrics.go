package controlplane

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
)

// Behind completes the options of a control plane in this process, whose door l is and has this signer's certificate. It
// must be called before Run.
func (s *Signer) Behind(o Options, l net.Listener) Options {
	o.Door, o.Certified, o.Signing = Door{Listener: l, TLS: s.TLS()}, s.certified, s.keeper.Ready
	return o
}

// certified says why sidecars cannot be let in by the certificate of this process; nil: they can.
func (s *Signer) certified() error {
	why := ""
	switch own := s.door.leaf.Load(); {
	case own == nil:
		why = "there is no certificate yet"
	case !time.Now().Before(own.NotAfter):
		why = "the certificate has expired"
	default:
		return nil
	}
	if err := s.keeper.Ready(); err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return errors.New(why)
}

// keeping are the metrics of a CA that nobody has to ask for a certificate first.
type keeping struct{ keeper *keep.Keeper }

// registerKeeping adds them.
func registerKeeping(r prometheus.Registerer, k *keep.Keeper) {
	if r != nil {
		r.MustRegister(keeping{k})
	}
}

func signingDesc() *prometheus.Desc {
	return prometheus.NewDesc("heddle_identity_signing", "1 while this process signs; 0 where another replica does, or nobody can.", nil, nil)
}

func faultDesc() *prometheus.Desc {
	return prometheus.NewDesc("heddle_identity_fault", "1 for the code of why this process does not sign, 0 for the others.", []string{"code"}, nil)
}

func phaseDesc() *prometheus.Desc {
	return prometheus.NewDesc("heddle_identity_rotation_phase", "1 for the phase of the CA's rotation, 0 for the others; steady: there is none.", []string{"phase"}, nil)
}

func sinceDesc() *prometheus.Desc {
	return prometheus.NewDesc("heddle_identity_rotation_phase_since_seconds", "When that phase began, in seconds since 1970; 0 before the CA was read.", nil, nil)
}

// Describe implements prometheus.Collector.
func (keeping) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{signingDesc(), faultDesc(), phaseDesc(), sinceDesc()} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (k keeping) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	err := k.keeper.Ready()
	gauge(signingDesc(), one(err == nil))
	for _, code := range keep.Codes() {
		gauge(faultDesc(), one(keep.CodeOf(err) == code), string(code))
	}
	p := k.keeper.Progress()
	for _, phase := range []identity.Phase{identity.Steady, identity.Introducing, identity.Signing, identity.Retiring} {
		gauge(phaseDesc(), one(p.Phase == phase), string(phase))
	}
	since := 0.0
	if !p.Since.IsZero() {
		since = float64(p.Since.Unix())
	}
	gauge(sinceDesc(), since)
}
