package demo

import (
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// ledger is what the applications themselves know of the traffic: a witness beside the sidecars. It is shared by all.
type ledger struct {
	mu      sync.Mutex
	calls   map[call]*callCount
	serving map[served]*run
}

// call is a pod calling a Service.
type call struct {
	pod     string
	service model.Key
}

// callCount counts the calls of one pod to one Service, at both ends.
type callCount struct {
	answered uint64 // for the caller, with whatever status
	failures uint64 // that applications answered with, also to tries that were repeated
	arrived  gauge  // under way in the applications
}

// gauge is a number of things at once, and the most that there were.
type gauge struct{ now, peak int }

func (g *gauge) up()   { g.now++; g.peak = max(g.peak, g.now) }
func (g *gauge) down() { g.now-- }

// served is one pod serving another's calls of a Service.
type served struct {
	caller, pod string
	service     model.Key
}

// run is failures in a row, and all of the period.
type run struct{ now, longest, all int }

func newLedger() *ledger {
	return &ledger{calls: map[call]*callCount{}, serving: map[served]*run{}}
}

// at must be called with the lock held.
func (l *ledger) at(c call) *callCount {
	if l.calls[c] == nil {
		l.calls[c] = &callCount{}
	}
	return l.calls[c]
}

// answer notes that a caller had an answer.
func (l *ledger) answer(c call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(c).answered++
}

// serve notes that an application begins to serve a caller's call; the function that it gives notes how that went.
func (l *ledger) serve(pod string, c call) (ended func(failed bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at(c).arrived.up()
	return func(failed bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.at(c).arrived.down()
		s := served{c.pod, pod, c.service}
		if l.serving[s] == nil {
			l.serving[s] = &run{}
		}
		if r := l.serving[s]; failed {
			l.at(c).failures++
			r.now++
			r.all++
			r.longest = max(r.longest, r.now)
		} else {
			r.now = 0
		}
	}
}

// begin starts a new period: what was most up to now is forgotten. Answers and failures are counted on.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		c.arrived.peak = c.arrived.now
	}
	for _, r := range l.serving {
		*r = run{}
	}
}

// accounts is a copy of the ledger.
type accounts struct {
	calls   map[call]callCount
	serving map[served]run
}

func (l *ledger) read() accounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := accounts{calls: map[call]callCount{}, serving: map[served]run{}}
	for c, n := range l.calls {
		a.calls[c] = *n
	}
	for s, r := range l.serving {
		a.serving[s] = *r
	}
	return a
}

// history is what the ledger said lately. Sidecars push what they count now and then, so what they have said by now is held
// against what the applications knew a while ago.
type history []entry

type entry struct {
	at    time.Time
	knows accounts
}

// add notes what the ledger says now, and gives what it said so long ago or longer; nothing if that is not known.
func (h *history) add(now time.Time, a accounts, ago time.Duration) accounts {
	*h = append(*h, entry{now, a})
	var then accounts
	for len(*h) > 0 && !(*h)[0].at.After(now.Add(-ago)) {
		if then = (*h)[0].knows; len(*h) == 1 || (*h)[1].at.After(now.Add(-ago)) {
			break // the newest of those that are old enough stays
		}
		*h = (*h)[1:]
	}
	return then
}
