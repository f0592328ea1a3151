package attest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/identity"
)

// DefaultAudience is the audience of the tokens that sidecars send. It is our own, so that a token of an application
// is of no use here, and a sidecar's token of no use to an application.
const DefaultAudience = "heddle"

const (
	maxCached     = 10_000
	cacheTime     = time.Minute
	reviewTimeout = 10 * time.Second
)

// TokenReviews asks the API server about a token; client-go's AuthenticationV1().TokenReviews() does, from a client whose own
// limit (rest.Config.QPS) is off: Global is in its place, and says so to whom it turns away.
type TokenReviews interface {
	Create(ctx context.Context, review *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// ReviewerOptions say whom to ask. Reviews and Pods are required.
type ReviewerOptions struct {
	Reviews  TokenReviews
	Pods     Pods
	Audience string // default DefaultAudience
	// ControlPlane is the NAMESPACE/ACCOUNT of our own pods, which have an identity and no sidecar; empty for none.
	ControlPlane string
	PerPod       *Limits          // of attested requests; default one per second and pod, 10 at once
	Global       *rate.Limiter    // of reviews; default 500 per second, 1,000 at once
	Now          func() time.Time // default time.Now
}

// Reviewer attests sidecars in a cluster, by their pod's token. It is safe for concurrent use.
//
// A good answer of the API server about a token is kept for a minute, never longer than the token lasts; what it
// refuses is asked again each time. The pod is looked up for every request, so a pod that ends loses its identity at
// once, whatever is kept.
type Reviewer struct {
	options ReviewerOptions
	flights singleflight.Group

	mu    sync.Mutex
	known *bounded[[sha256.Size]byte, known]
}

// known is a token that the API server accepted.
type known struct {
	subject subject
	until   time.Time
}

// NewReviewer makes a Reviewer.
func NewReviewer(o ReviewerOptions) *Reviewer {
	if o.Audience == "" {
		o.Audience = DefaultAudience
	}
	if o.PerPod == nil {
		o.PerPod = NewLimits(time.Second, 10)
	}
	if o.Global == nil {
		o.Global = rate.NewLimiter(500, 1000)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reviewer{options: o, known: newBounded[[sha256.Size]byte, known](maxCached)}
}

// Attest says whose token it is. It fails with a *Refusal, or with ctx's error.
func (r *Reviewer) Attest(ctx context.Context, token string) (identity.Workload, error) {
	s, err := r.review(ctx, token)
	if err != nil {
		return identity.Workload{}, err
	}
	if refusal := s.check(r.options.Pods, r.options.ControlPlane); refusal != nil {
		return identity.Workload{}, refusal
	}
	if !r.options.PerPod.Allow(s.podUID, r.options.Now()) {
		return identity.Workload{}, refuse(PodRateLimited, "pod "+s.namespace+"/"+s.pod+" asks too often; wait before asking again")
	}
	return identity.Workload{Namespace: s.namespace, Account: s.account, Pod: s.pod, PodUID: s.podUID, Node: s.node}, nil
}

// Present holds the pod of a certificate that is still valid against what the API server says of it now: it fails with a
// *Refusal if that pod is not there any more.
func (r *Reviewer) Present(w identity.Workload) error {
	s := subject{namespace: w.Namespace, account: w.Account, pod: w.Pod, podUID: w.PodUID}
	if _, refusal := s.present(r.options.Pods); refusal != nil {
		return refusal
	}
	return nil
}

// review gives the subject of a token, from what is known or from the API server.
func (r *Reviewer) review(ctx context.Context, token string) (subject, error) {
	claims, refusal := glance(token, r.options.Audience, r.options.Now())
	if refusal != nil {
		return subject{}, refusal
	}
	hash := sha256.Sum256([]byte(token))
	if s, ok := r.lookup(hash); ok {
		return s, nil
	}
	flight := r.flights.DoChan(hex.EncodeToString(hash[:]), func() (any, error) {
		if s, ok := r.lookup(hash); ok { // an earlier flight ended between the look above and this one
			return s, nil
		}
		// Whoever came first may go away; those who wait with it still want the answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		s, err := r.ask(ctx, token)
		if err != nil {
			return nil, err
		}
		r.remember(hash, s, claims)
		return s, nil
	})
	select {
	case <-ctx.Done():
		return subject{}, ctx.Err()
	case answer := <-flight:
		if answer.Err != nil {
			return subject{}, answer.Err
		}
		return answer.Val.(subject), nil
	}
}

// ask asks the API server.
func (r *Reviewer) ask(ctx context.Context, token string) (subject, error) {
	if !r.options.Global.AllowN(r.options.Now(), 1) {
		return subject{}, refuse(RateLimited, "too many sidecars ask at once; ask again")
	}
	answer, err := r.options.Reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.options.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return subject{}, &Refusal{ReviewUnavailable, "the API server does not review tokens now; ask again", err}
	}
	s, refusal := subjectOf(answer.Status, r.options.Audience)
	if refusal != nil {
		return subject{}, refusal
	}
	return s, nil
}

func (r *Reviewer) lookup(hash [sha256.Size]byte) (subject, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.known.get(hash)
	if !ok {
		return subject{}, false
	}
	if !r.options.Now().Before(k.until) {
		r.known.remove(hash)
		return subject{}, false
	}
	return k.subject, true
}

func (r *Reviewer) remember(hash [sha256.Size]byte, s subject, c claims) {
	until := r.options.Now().Add(cacheTime)
	if c.expiry().Before(until) {
		until = c.expiry()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.put(hash, known{s, until})
}
