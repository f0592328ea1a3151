package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// reviews answers as an API server would, with what a test says.
type reviews struct {
	answer authenticationv1.TokenReviewStatus
	err    error
	gate   chan struct{} // if there is one, an answer waits for it
	asked  atomic.Int32
	last   atomic.Pointer[authenticationv1.TokenReview]
}

func (r *reviews) Create(ctx context.Context, review *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	r.asked.Add(1)
	r.last.Store(review)
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return &authenticationv1.TokenReview{Status: r.answer}, nil
}

// good is the API server's answer about the token of pod shop/web-1.
func good() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{DefaultAudience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:shop:web",
			Extra: map[string]authenticationv1.ExtraValue{
				extraPodName: {"web-1"}, extraPodUID: {"uid-1"}, extraNodeName: {"node-1"},
				"authentication.kubernetes.io/credential-id": {"JTI=1"},
			},
		},
	}
}

// pods are what the API server says of pods, by namespace/name.
type pods map[string]Pod

func (p pods) Pod(namespace, name string) (Pod, bool) {
	pod, ok := p[namespace+"/"+name]
	return pod, ok
}

func running() Pod { return Pod{UID: "uid-1", Account: "web", Node: "node-1", Meshed: true} }

// world is a Reviewer with all that it stands on.
type world struct {
	*clock
	*reviews
	pods     pods
	reviewer *Reviewer
}

func newWorld(change ...func(*ReviewerOptions)) *world {
	w := &world{clock: newClock(), reviews: &reviews{answer: good()}, pods: pods{"shop/web-1": running()}}
	o := ReviewerOptions{Reviews: w.reviews, Pods: w.pods, Now: w.Now}
	for _, c := range change {
		c(&o)
	}
	w.reviewer = NewReviewer(o)
	return w
}

// token is one that says of itself that it is good for a while.
func (w *world) token(valid time.Duration) string {
	return tokenOf(map[string]any{"aud": []string{DefaultAudience}, "exp": w.Now().Add(valid).Unix()})
}

func tokenOf(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err) // plain data
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	if err == nil {
		t.Fatalf("attested; want a refusal for %s", want)
	}
	if got := ReasonOf(err); got != want {
		t.Errorf("refused for %q, want %q: %v", got, want, err)
	}
}

var errAway = errors.New("connection refused")
