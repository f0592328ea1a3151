package keep

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Why a copy of the trust bundle was not written.
const (
	CopyForbidden   = "forbidden"   // rights, a quota, or an admission webhook
	CopyInvalid     = "invalid"     // such as one that somebody made immutable
	CopyTimeout     = "timeout"     // no answer in time
	CopyUnavailable = "unavailable" // the API server does not answer, or not now
	CopyOther       = "other"
)

func copyReasons() []string {
	return []string{CopyForbidden, CopyInvalid, CopyTimeout, CopyUnavailable, CopyOther}
}

// copyReason is one of copyReasons.
func copyReason(err error) string {
	var said apierrors.APIStatus
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return CopyForbidden
	case apierrors.IsInvalid(err):
		return CopyInvalid
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return CopyTimeout
	case apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsTooManyRequests(err), !errors.As(err, &said):
		return CopyUnavailable
	}
	return CopyOther
}

// newFailures makes the metrics of copies; r may be nil.
func (k *Keeper) newFailures(r prometheus.Registerer) *prometheus.CounterVec {
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heddle_identity_copy_failures_total", Help: "Tries to copy the trust bundle into a namespace that failed, by reason.",
	}, []string{"reason"})
	for _, reason := range copyReasons() {
		failures.WithLabelValues(reason) // so that each is there before it first happens
	}
	behind := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_identity_uncopied_namespaces", Help: "Namespaces with sidecars where the current trust bundle could not be written.",
	}, func() float64 {
		n, _ := k.behind()
		return float64(n)
	})
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "heddle_identity_uncopied_since_seconds", Help: "Since when the first of those namespaces lacks it, in seconds since 1970; 0 without any.",
	}, func() float64 {
		n, since := k.behind()
		if n == 0 {
			return 0
		}
		return float64(since.UnixMilli()) / 1000
	})
	if r != nil {
		r.MustRegister(failures, behind, oldest)
	}
	return failures
}

// behind is how many namespaces lack the current bundle, and since when the first of them does.
func (k *Keeper) behind() (n int, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range k.uncopied {
		if n++; n == 1 || u.Since.Before(since) {
			since = u.Since
		}
	}
	return n, since
}
