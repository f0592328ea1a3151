package kube

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Status is how a source stands, for /readyz and metrics.
type Status struct {
	Connected bool
	Since     time.Time // when Connected last changed; zero before the first answer
	Reason    string    // why it is not connected
	Queued    int       // events not yet handed on
}

// link knows whether the API server answers, by looking at every request to it: client-go itself keeps quiet about
// an API server that is away while it tries again.
type link struct {
	log zerolog.Logger

	mu     sync.Mutex
	status Status
	away   bool // was it ever
}

func (l *link) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		switch {
		case err != nil && req.Context().Err() != nil: // given up from our side
		case err != nil:
			l.set(Status{Reason: err.Error()})
		case resp.StatusCode >= http.StatusInternalServerError:
			l.set(Status{Reason: fmt.Sprintf("it answers %s", resp.Status)})
		default:
			l.set(Status{Connected: true})
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (l *link) set(now Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.status
	if !before.Since.IsZero() && before.Connected == now.Connected {
		l.status.Reason = now.Reason
		return
	}
	now.Since = time.Now()
	l.status = now
	l.away = l.away || !now.Connected
	switch {
	case !now.Connected:
		l.log.Warn().Str("reason", now.Reason).Msg("API server does not answer; everything known stays as it is")
	case before.Since.IsZero():
		l.log.Info().Msg("API server answers")
	default:
		l.log.Info().Dur("away", now.Since.Sub(before.Since)).Msg("API server answers again")
	}
}

// returned says that the API server was away until a moment ago. It refuses everything for some seconds after its
// start, before it has read who may do what.
func (l *link) returned() bool {
	const learning = 10 * time.Second
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away && (!l.status.Connected || time.Since(l.status.Since) < learning)
}

func (l *link) get() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}
