package controlplane

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/admission"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/writeback"
)

// judged hears what became of policies, on the loop: it must not block.
type judged interface {
	Judged(changed []mesh.PolicyStatus)
	Complete() // the first listing was judged
}

// WebhookOptions say what the webhooks ask, and whom.
type WebhookOptions struct {
	Client   kubernetes.Interface
	Injector admission.Injector
}

// Webhooks are what a control plane in a cluster tells the API server and people about pods and policies.
type Webhooks struct {
	handler    http.Handler
	namespaces *kube.Namespaces
	writer     *writeback.Writer
}

// NewWebhooks makes those of a control plane. It must be called before the control plane's Run.
func NewWebhooks(p *Plane, o WebhookOptions) *Webhooks {
	log := p.log.With().Str("component", "webhooks").Logger()
	w := &Webhooks{
		namespaces: kube.NewNamespaces(o.Client),
		writer:     writeback.New(writeback.Options{Client: o.Client, Log: log}),
	}
	p.judged = w.writer
	w.handler = admission.NewHandler(admission.Options{
		Injector: o.Injector, Namespaces: w.namespaces, Policies: p, System: p.options.Namespace,
		Observe: observeReviews(p.registry), Log: log,
	})
	return w
}

// Handler answers POST /inject and POST /policy.
func (w *Webhooks) Handler() http.Handler { return w.handler }

// Run watches what the webhooks must know until ctx ends.
func (w *Webhooks) Run(ctx context.Context) error { return w.namespaces.Run(ctx) }

// WriteStatus writes into the ConfigMaps of policies what became of them, until ctx ends, and may be called again then. Of
// several replicas one alone must do so.
func (w *Webhooks) WriteStatus(ctx context.Context) { w.writer.Run(ctx) }

// observeReviews counts reviews.
func observeReviews(r prometheus.Registerer) func(admission.Review) {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "heddle_admission_review_seconds", Help: "How long the answer to a review took, by webhook and outcome.",
		Buckets: []float64{0.001, 0.005, 0.025, 0.1, 0.5, 1, 5},
	}, []string{"webhook", "outcome"})
	r.MustRegister(took)
	for _, webhook := range []string{"inject", "policy"} {
		for _, outcome := range admission.Outcomes() {
			took.WithLabelValues(webhook, string(outcome)) // so that each is there before it first happens
		}
	}
	return func(r admission.Review) { took.WithLabelValues(r.Webhook, string(r.Outcome)).Observe(r.Took.Seconds()) }
}
