package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Paths of the webhooks.
const (
	InjectPath = "/inject"
	PolicyPath = "/policy"
)

// maxBody bounds a review, in bytes: the API server takes objects of 3 MiB, and an update has two of them.
const maxBody = 8 << 20

const (
	// maxReviews bounds the work at once, since anybody may ask: a review takes milliseconds, so that those of the API
	// server get their turn.
	maxReviews = 4
	// maxPatience is how long a request may want to wait for its turn and its answer.
	maxPatience = 10 * time.Second
)

// Options say what the webhooks know. Injector and Namespaces are needed for /inject; all else has a default.
type Options struct {
	Injector   Injector
	Namespaces Namespaces
	Policies   Policies // nil: policies are judged by themselves alone
	System     string   // the control plane's own namespace; default heddle-system
	Observe    func(Review)
	Log        zerolog.Logger
}

// Review is one that was answered, for metrics.
type Review struct {
	Webhook string // inject or policy
	Outcome Outcome
	Took    time.Duration
}

// Outcome says what became of a review.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed" // as it is
	Patched Outcome = "patched"
	Refused Outcome = "refused"
	Failed  Outcome = "failed" // a fault of ours
	Invalid Outcome = "invalid"
)

// Outcomes lists all of them.
func Outcomes() []Outcome { return []Outcome{Allowed, Patched, Refused, Failed, Invalid} }

// handler answers reviews.
type handler struct {
	Options
	turns chan struct{} // one element for each review under way
}

// NewHandler gives what answers POST /inject and POST /policy. A request that is no review gets 400, 413 or 415 with a
// reason, which the API server shows to whoever made the object; everything else is answered within the review.
func NewHandler(o Options) http.Handler {
	if o.System == "" {
		o.System = "heddle-system"
	}
	if o.Observe == nil {
		o.Observe = func(Review) {}
	}
	h := handler{o, make(chan struct{}, maxReviews)}
	mux := http.NewServeMux()
	mux.Handle("POST "+InjectPath, h.webhook("inject", wanted{"pods", "Pod"}, h.inject))
	mux.Handle("POST "+PolicyPath, h.webhook("policy", wanted{"configmaps", "ConfigMap"}, h.policy))
	return mux
}

// wanted is what a webhook is asked about.
type wanted struct{ resource, kind string }

// judge answers a request for a review. An error is a fault of ours.
type judge func(ctx context.Context, r *admissionv1.AdmissionRequest) (*verdict, error)

// verdict is an answer.
type verdict struct {
	refusal  string // empty: allowed
	code     int32  // of a refusal
	patch    []byte // JSON patch
	warnings []string
	audit    map[string]string
}

func refuse(code int32, format string, args ...any) *verdict {
	return &verdict{refusal: fmt.Sprintf(format, args...), code: code}
}

func (v *verdict) outcome() Outcome {
	switch {
	case v.refusal != "":
		return Refused
	case v.patch != nil:
		return Patched
	}
	return Allowed
}

// webhook reads reviews, has them judged, and writes the answers.
func (h handler) webhook(name string, want wanted, by judge) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		outcome := Failed
		defer func() { h.Observe(Review{Webhook: name, Outcome: outcome, Took: time.Since(begun)}) }()
		body, status, err := read(w, r)
		var review *admissionv1.AdmissionReview
		var v *verdict
		var fault error
		if err == nil {
			ctx, cancel := context.WithTimeout(r.Context(), patience(r))
			defer cancel()
			status, err = h.inTurn(ctx, func() (status int, err error) {
				if review, status, err = parse(body, want); err == nil {
					v, fault = by(ctx, review.Request)
				}
				return status, err
			})
		}
		switch {
		case status == http.StatusServiceUnavailable:
			h.Log.Warn().Err(err).Str("webhook", name).Str("from", r.RemoteAddr).Msg("a review was not begun")
			http.Error(w, fmt.Sprintf("%s: %v", r.URL.Path, err), status)
			return
		case err != nil:
			outcome = Invalid
			h.Log.Warn().Err(err).Str("webhook", name).Str("from", r.RemoteAddr).Msg("was asked what is no review")
			http.Error(w, fmt.Sprintf("%s: %v", r.URL.Path, err), status)
			return
		case fault != nil:
			h.Log.Error().Err(fault).Str("webhook", name).Str("object", nameOf(review.Request)).Msg("a review failed")
			v = refuse(http.StatusInternalServerError, "%v", fault)
		default:
			outcome = v.outcome()
			h.Log.Debug().Str("webhook", name).Str("object", nameOf(review.Request)).Str("outcome", string(outcome)).Msg("reviewed")
		}
		write(w, review, v)
	})
}

// patience is how long whoever asks waits: the API server says it in the query.
func patience(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 || d > maxPatience {
		return maxPatience
	}
	return d
}

// inTurn does work when less than maxReviews do, and fails if that is not so before ctx ends. Who sends or reads slowly is
// not to have a turn meanwhile.
func (h handler) inTurn(ctx context.Context, work func() (status int, err error)) (int, error) {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
		return work()
	case <-ctx.Done():
		return http.StatusServiceUnavailable, fmt.Errorf("%d other reviews were under way all the time; try again", maxReviews)
	}
}

func nameOf(r *admissionv1.AdmissionRequest) string { return r.Namespace + "/" + r.Name }

// read gives the body of a request, or an HTTP status with what is wrong.
func read(w http.ResponseWriter, r *http.Request) ([]byte, int, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("the content type is %q; want application/json", r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the review has more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the review: %w", err)
	}
	return body, 0, nil
}

// parse gives the review in a body, or an HTTP status with what is wrong.
func parse(body []byte, want wanted) (*admissionv1.AdmissionReview, int, error) {
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("the body is no AdmissionReview: %w", err)
	}
	if err := check(review, want); err != nil {
		return nil, http.StatusBadRequest, err
	}
	return review, 0, nil
}

// check says whether a review is one that the webhook can answer.
func check(review *admissionv1.AdmissionReview, want wanted) error {
	version, kind := admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
	r := review.Request
	switch {
	case review.APIVersion != version || review.Kind != kind:
		return fmt.Errorf("the body is %q of %q; want %s of %s", review.Kind, review.APIVersion, kind, version)
	case r == nil || r.UID == "":
		return errors.New("the review has no request, or one without a uid")
	case r.Resource != metav1.GroupVersionResource{Version: "v1", Resource: want.resource} ||
		r.Kind != metav1.GroupVersionKind{Version: "v1", Kind: want.kind}:
		return fmt.Errorf("the request is about %s (%s); want %s of v1: correct the webhook's rules", r.Kind.String(), r.Resource.String(), want.kind)
	case r.SubResource != "":
		return fmt.Errorf("the request is about %s/%s; want %s alone: correct the webhook's rules", want.resource, r.SubResource, want.resource)
	case r.Namespace == "":
		return fmt.Errorf("the request names no namespace, and each %s is in one", want.kind)
	case !slices.Contains([]admissionv1.Operation{admissionv1.Create, admissionv1.Update}, r.Operation):
		return fmt.Errorf("the operation is %q; want %s or %s: correct the webhook's rules", r.Operation, admissionv1.Create, admissionv1.Update)
	}
	return nil
}

// write answers a review.
func write(w http.ResponseWriter, review *admissionv1.AdmissionReview, v *verdict) {
	a := &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: v.refusal == "", Warnings: v.warnings, AuditAnnotations: v.audit,
	}
	if !a.Allowed {
		a.Result = &metav1.Status{Status: metav1.StatusFailure, Message: v.refusal, Code: v.code, Reason: reasons(v.code)}
	}
	if v.patch != nil {
		kind := admissionv1.PatchTypeJSONPatch
		a.Patch, a.PatchType = v.patch, &kind
	}
	w.Header().Set("Content-Type", "application/json")
	// A failure to write is the API server's to notice: it has gone away.
	_ = json.NewEncoder(w).Encode(&admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: a})
}

func reasons(code int32) metav1.StatusReason {
	switch code {
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	}
	return metav1.StatusReasonInternalError
}

// decode reads the object of a request.
func decode[T corev1.Pod | corev1.ConfigMap](raw []byte, what string) (*T, *verdict) {
	o := new(T)
	if err := json.Unmarshal(raw, o); err != nil {
		return nil, refuse(http.StatusBadRequest, "reading the %s: %v", what, err)
	}
	return o, nil
}
