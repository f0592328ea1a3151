package wire

import (
	"encoding/json"
	"math"
	"net/http"
	"testing"
	"time"
)

// Response is an answer, read to its end.
type Response struct {
	t       testing.TB
	Status  int
	Header  http.Header
	Body    []byte
	Trailer http.Header
	Took    time.Duration
}

// WantStatus fails the test unless the status is as wanted.
func (r *Response) WantStatus(want int) *Response {
	r.t.Helper()
	if r.Status != want {
		r.t.Errorf("status is %d, want %d; headers %v, body %.200q", r.Status, want, r.Header, r.Body)
	}
	return r
}

// WantHeader fails the test unless the header has the value; "" means that it must be absent.
func (r *Response) WantHeader(name, want string) *Response {
	r.t.Helper()
	if got := r.Header.Get(name); got != want {
		r.t.Errorf("header %s is %q, want %q", name, got, want)
	}
	return r
}

// WantTook fails the test unless the answer took at least from and less than to. Envoy's timers count from when its
// event loop woke, so they may be a little early.
func (r *Response) WantTook(from, to time.Duration) *Response {
	r.t.Helper()
	if r.Took < from-10*time.Millisecond || r.Took >= to {
		r.t.Errorf("the answer took %v, want %v to %v", r.Took, from, to)
	}
	return r
}

// Facts are what the application saw; it fails the test if no application answered.
func (r *Response) Facts() Facts {
	r.t.Helper()
	var f Facts
	if err := json.Unmarshal(r.Body, &f); err != nil || f.Pod == "" {
		r.t.Fatalf("no application answered: status %d, headers %v, body %.200q", r.Status, r.Header, r.Body)
	}
	return f
}

// WantFrom fails the test unless the application of that pod answered.
func (r *Response) WantFrom(pod string) *Response {
	r.t.Helper()
	if got := r.Facts().Pod; got != pod {
		r.t.Errorf("pod %s answered, want %s", got, pod)
	}
	return r
}

// WantShare fails the test unless got of n is what a share of p gives. The bound is five standard deviations of the
// binomial distribution: a right implementation fails it once in two million runs.
func WantShare(t testing.TB, what string, got, n int, p float64) {
	t.Helper()
	mean, bound := float64(n)*p, 5*math.Sqrt(float64(n)*p*(1-p))
	if math.Abs(float64(got)-mean) > bound {
		t.Errorf("%s: %d of %d, want %.0f +- %.0f", what, got, n, mean, bound)
	}
}

// Statuses counts answers by status.
func Statuses(all []*Response) map[int]int {
	n := map[int]int{}
	for _, r := range all {
		n[r.Status]++
	}
	return n
}

// Pods counts answers by the pod that gave them, with "" for those that no application gave.
func Pods(all []*Response) map[string]int {
	n := map[string]int{}
	for _, r := range all {
		n[r.Header.Get("x-app")]++
	}
	return n
}
