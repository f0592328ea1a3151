package observe

import (
	"slices"
	"time"
)

// window adds up samples in slots of time and forgets the oldest. It is bounded in two ways: by time, and by the
// number of samples, since how many series there are is up to others. No node keeps others out: where room is short, one
// with more than a tenth of it gives way first.
type window struct {
	slot       time.Duration
	keep       time.Duration
	maxSamples int
	slots      []slot             // oldest first
	samples    int                // in all slots
	dropped    uint64             // that found no place
	totals     map[series]*Sample // since the start
	states     map[series]State
	held       share // of the samples in all slots
	totalsHeld share
	statesHeld share
	bounds     []float64 // of the histograms; one copy for all
}

type slot struct {
	start   time.Time
	samples map[series]*Sample
	held    share
}

// add puts a batch that arrived at now where it belongs.
func (w *window) add(now time.Time, b batch) {
	w.forget(now.Add(-w.keep))
	for s, r := range b {
		if r.state != nil {
			w.state(s, *r.state)
		}
		if !r.sample.isEmpty() {
			w.shareBounds(&r.sample.Latency)
			w.sample(now, s).Add(&r.sample)
			w.total(s).Add(&r.sample)
		}
	}
}

// shareBounds lets histograms share their bounds, which are as large as the counts.
func (w *window) shareBounds(h *Histogram) {
	if w.bounds == nil {
		w.bounds = h.bounds
	}
	if slices.Equal(w.bounds, h.bounds) {
		h.bounds = w.bounds
	}
}

// fairShare is how many places one node may hold for good: with 100,000 places more than a sidecar takes that calls
// 1,000 Services, which has about three series for each.
func (w *window) fairShare() int { return max(1, w.maxSamples/10) }

func (w *window) state(s series, now State) {
	if _, known := w.states[s]; !known {
		if len(w.states) >= w.maxSamples || w.statesHeld[s.node] >= w.fairShare() {
			return
		}
		w.statesHeld.add(s.node, 1)
	}
	w.states[s] = now
}

// sample gives the place for s at now. What comes and finds no room is counted as dropped.
func (w *window) sample(now time.Time, s series) *Sample {
	start := now.Truncate(w.slot)
	if n := len(w.slots); n == 0 || w.slots[n-1].start.Before(start) {
		w.slots = append(w.slots, slot{start: start, samples: map[series]*Sample{}, held: share{}})
	}
	if found := w.slots[len(w.slots)-1].samples[s]; found != nil {
		return found
	}
	if w.samples >= w.maxSamples {
		w.makeRoom(s.node)
	}
	if w.samples >= w.maxSamples {
		w.dropped++
		return &Sample{}
	}
	made, current := &Sample{}, w.slots[len(w.slots)-1]
	current.samples[s] = made
	current.held.add(s.node, 1)
	w.samples++
	w.held.add(s.node, 1)
	return made
}

// total gives the place for s in the totals.
func (w *window) total(s series) *Sample {
	if found := w.totals[s]; found != nil {
		return found
	}
	made := &Sample{}
	if len(w.totals) < w.maxSamples && w.totalsHeld[s.node] < w.fairShare() {
		w.totals[s] = made
		w.totalsHeld.add(s.node, 1)
	} else {
		w.dropped++
	}
	return made
}

// forget drops the slots that began before t.
func (w *window) forget(t time.Time) {
	n := 0
	for n < len(w.slots) && w.slots[n].start.Before(t) {
		w.samples -= len(w.slots[n].samples)
		for node, held := range w.slots[n].held {
			w.held.add(node, -held)
		}
		n++
	}
	w.slots = append([]slot(nil), w.slots[n:]...)
}

// leave forgets the states of a sidecar that is gone; what it counted stays.
func (w *window) leave(node string) {
	for s := range w.states {
		if s.node == node {
			delete(w.states, s)
		}
	}
	delete(w.statesHeld, node)
}

// sum adds up the slots that began at since or later.
func (w *window) sum(since time.Time) map[series]*Sample {
	sums := map[series]*Sample{}
	for _, slot := range w.slots {
		if slot.start.Before(since) {
			continue
		}
		for s, sample := range slot.samples {
			if sums[s] == nil {
				sums[s] = &Sample{}
			}
			sums[s].Add(sample)
		}
	}
	return sums
}
