package keep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// Whoever may write in a namespace can make its copy immutable, or use its quota up.
func TestANamespaceWhoseCopyFailsHoldsTheRotationForAWhileOnly(t *testing.T) {
	var log transcript.Buffer
	registry := prometheus.NewRegistry()
	begin := time.Time{}
	inBubble(t, func(o *Options) {
		o.Namespaces = func() []string { return []string{"bank", "shop"} }
		o.Log, o.Registry = zerolog.New(&log), registry
	}, func(t *testing.T, m *memory, k *Keeper) {
		m.with(func() {
			m.refuses["bank"] = apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, TrustConfigMap, nil)
		})
		begin = time.Now()
		m.leading <- true
		synctest.Wait()
		do(t, k.Ready())
		first := k.Progress().Signer
		do(t, k.Rotate(t.Context(), nil))
		time.Sleep(copyPatience / 2)
		at := k.Progress()
		if at.Phase != identity.Introducing || len(at.Waits) != 1 || !strings.Contains(at.Waits[0], "bank") {
			t.Errorf("it did not give the copy a while: %+v", at)
		}
		wantUncopied(t, at.Uncopied, "bank", begin)
		now := counted(t, registry)
		if now["heddle_identity_uncopied_namespaces"] != 1 || now["heddle_identity_uncopied_since_seconds"] != float64(begin.Unix()) {
			t.Errorf("the metrics are %v; want one namespace since %d", now, begin.Unix())
		}
		if now["heddle_identity_copy_failures_total invalid"] < 5 || now["heddle_identity_copy_failures_total forbidden"] != 0 {
			t.Errorf("the metrics are %v; want failures for being invalid alone", now)
		}
		m.with(func() { clear(m.copies) })
		time.Sleep(recopy)
		m.with(func() {
			if m.copies["bank"] < 5 || m.copies["shop"] > 3 {
				t.Errorf("tries in a minute: %v; want only the failing one again and again", m.copies)
			}
		})
		time.Sleep(4 * copyPatience)
		if at := k.Progress(); at.Phase != identity.Steady || at.Signer == first {
			t.Errorf("one namespace still holds the rotation: %+v", at)
		}

		m.with(func() { clear(m.refuses) })
		time.Sleep(time.Minute)
		synctest.Wait()
		if at := k.Progress(); len(at.Uncopied) > 0 {
			t.Errorf("uncopied are %+v", at.Uncopied)
		}
		if now := counted(t, registry); now["heddle_identity_uncopied_namespaces"] != 0 || now["heddle_identity_uncopied_since_seconds"] != 0 {
			t.Errorf("the metrics are %v; want none behind", now)
		}
		if n := strings.Count(log.String(), "could not copy"); n != 1 {
			t.Errorf("the log says it %d times:\n%s", n, &log)
		}
	})
}

// wantUncopied wants one namespace, of which the API server says since a time that its copy is invalid.
func wantUncopied(t *testing.T, got []Uncopied, namespace string, since time.Time) {
	t.Helper()
	if len(got) == 1 && strings.Contains(got[0].Error, "is invalid") {
		got[0].Error = "is invalid"
	}
	if want := []Uncopied{{namespace, since, CopyInvalid, "is invalid"}}; !slices.Equal(got, want) {
		t.Errorf("uncopied are %+v, want %+v", got, want)
	}
}

// counted gives what metrics say, by name and the value of their label.
func counted(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, f := range must[[]*dto.MetricFamily](t)(r.Gather()) {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func TestACopyThatFailsIsCountedByItsReason(t *testing.T) {
	quota := apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, TrustConfigMap, errors.New("exceeded quota"))
	for want, err := range map[string]error{
		CopyForbidden:   fmt.Errorf("write ConfigMap: %w", quota),
		CopyInvalid:     apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, TrustConfigMap, nil),
		CopyTimeout:     fmt.Errorf("write ConfigMap: %w", context.DeadlineExceeded),
		CopyUnavailable: errors.New("dial tcp: connection refused"),
		CopyOther:       apierrors.NewBadRequest("odd"),
	} {
		if got := copyReason(err); got != want {
			t.Errorf("%v counts as %s, want %s", err, got, want)
		}
	}
}
