package attest

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds how many buckets are remembered. A forgotten one is full again.
const maxBuckets = 20_000

// Limits is a token bucket per key, for keys that cannot be made up at will: those of pods that were attested, or addresses
// that a connection came from.
type Limits struct {
	every time.Duration
	burst int

	mu      sync.Mutex
	buckets *bounded[string, *rate.Limiter]
}

// NewLimits allows each key one request per every, and burst at once.
func NewLimits(every time.Duration, burst int) *Limits {
	return &Limits{every: every, burst: burst, buckets: newBounded[string, *rate.Limiter](maxBuckets)}
}

// Allow takes one from the bucket of key.
func (l *Limits) Allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets.get(key)
	if !ok {
		b = rate.NewLimiter(rate.Every(l.every), l.burst)
		l.buckets.put(key, b)
	}
	return b.AllowN(now, 1)
}
