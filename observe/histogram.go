package observe

import (
	"math"
	"slices"
)

// Histogram counts times in milliseconds by bucket. Every sidecar uses the same bounds, so that histograms add up;
// quantiles do not, and are only taken from the sum.
type Histogram struct {
	bounds []float64 // shared, never changed
	counts []uint64  // one more than bounds: the last is what is above all of them
}

// NewHistogram makes one from counts that are cumulative, as they come from a sidecar.
func NewHistogram(bounds []float64, cumulative []uint64, total uint64) Histogram {
	h := Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
	var below uint64
	for i, c := range append(slices.Clip(cumulative), total) {
		if c > below { // rounding on the way may make a count smaller than the one before it
			h.counts[i] = c - below
			below = c
		}
	}
	return h
}

// Count is the number of times in it.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.counts {
		n += c
	}
	return n
}

// plus adds two. A histogram with other bounds cannot be added and is left out; it comes from a sidecar with
// another bootstrap than ours.
func (h Histogram) plus(o Histogram) Histogram {
	switch {
	case len(o.counts) == 0:
		return h
	case len(h.counts) == 0:
		return Histogram{bounds: o.bounds, counts: slices.Clone(o.counts)}
	case !slices.Equal(h.bounds, o.bounds):
		return h
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	return h
}

// Quantile gives the time in milliseconds under which a share q of all times lie, by interpolating within a bucket;
// false without any time. Above the last bound it gives that bound: it is at least that.
func (h Histogram) Quantile(q float64) (float64, bool) {
	total := h.Count()
	if total == 0 {
		return 0, false
	}
	rank := q * float64(total)
	var below float64
	for i, c := range h.counts {
		if n := float64(c); n > 0 && below+n >= rank {
			return h.within(i, (rank-below)/n), true
		}
		below += float64(c)
	}
	return h.start(len(h.counts) - 1), true
}

// within gives the time at a share of bucket i.
func (h Histogram) within(i int, share float64) float64 {
	from := h.start(i)
	if i == len(h.bounds) {
		return from
	}
	return from + share*(upperEdge(h.bounds[i])-from)
}

// start is the lower edge of bucket i.
func (h Histogram) start(i int) float64 {
	if i == 0 {
		return 0
	}
	return upperEdge(h.bounds[i-1])
}

// upperEdge is the time that a bound ends at. Envoy rounds times down to whole milliseconds and two digits, so the
// bound 9 holds what took less than 10, and 190 what took less than 200.
func upperEdge(bound float64) float64 {
	switch {
	case bound < 1:
		return 1
	case bound < 100:
		return bound + 1
	}
	return bound + math.Pow(10, math.Floor(math.Log10(bound))-1)
}
