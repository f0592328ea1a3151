package main

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// report is what a load client says at the end.
type report struct {
	Sent     int            `json:"sent"`
	OK       int            `json:"ok"`
	Failed   int            `json:"failed"`
	Failures map[string]int `json:"failures,omitempty"` // by reason
	Seconds  float64        `json:"seconds"`
	P50      float64        `json:"p50ms"`
	P99      float64        `json:"p99ms"`
	Max      float64        `json:"maxms"`
	Ends     []end          `json:"ends,omitempty"` // of TCP streams
}

func (t *tally) report() report {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.took)
	r := report{Sent: len(t.took), OK: t.ok, Failed: len(t.took) - t.ok, Failures: t.failures, Seconds: time.Since(t.began).Seconds()}
	r.P50, r.P99, r.Max = t.quantile(0.5), t.quantile(0.99), t.quantile(1)
	return r
}

// quantile gives the time, in milliseconds, that a share of requests stayed within; 0 without requests.
func (t *tally) quantile(share float64) float64 {
	if len(t.took) == 0 {
		return 0
	}
	at := min(int(share*float64(len(t.took))), len(t.took)-1)
	return float64(t.took[at].Microseconds()) / 1000
}

// reason is an error without what differs from one request to the next.
func reason(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		return "timeout"
	}
	return regexp.MustCompile(`:\d{4,5}\b`).ReplaceAllString(err.Error(), ":PORT")
}
