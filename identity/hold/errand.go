package hold

import (
	"regexp"
	"sync"

	"github.com/rs/zerolog"
)

// health is how the holder's errands go.
type health struct{ certificate, bundle, file *errand }

func newHealth(log zerolog.Logger) *health {
	return &health{
		certificate: &errand{log: log, what: "get a certificate"},
		bundle:      &errand{log: log, what: "follow the trust bundle"},
		file:        &errand{log: log, what: "read the trust bundle's file"},
	}
}

// errand is something that is tried again and again. It says in the log when it begins to fail, when the reason changes,
// and when it is over; not at each attempt.
type errand struct {
	log  zerolog.Logger
	what string

	mu     sync.Mutex
	reason string
}

// numbers in a reason, as source ports, change with each attempt.
func numbers() *regexp.Regexp { return regexp.MustCompile(`[0-9]+`) }

func (e *errand) hear(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.reason
	if err == nil {
		e.reason = ""
		if before != "" {
			e.log.Info().Str("errand", e.what).Msg("works again")
		}
		return
	}
	e.reason = err.Error()
	if n := numbers(); n.ReplaceAllString(before, "") != n.ReplaceAllString(e.reason, "") {
		e.log.Warn().Err(err).Str("errand", e.what).Msg("does not work and is tried again")
	}
}

func (e *errand) why() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reason
}
