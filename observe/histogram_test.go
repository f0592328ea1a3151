package observe

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// bounds are a few of those that sidecars use.
func bounds() []float64 { return []float64{0.5, 1, 2, 4, 9, 19, 49, 99, 190, 490} }

// histogramOf counts milliseconds as Envoy does: rounded down, cumulative.
func histogramOf(times ...float64) Histogram {
	cumulative := make([]uint64, len(bounds()))
	for i, b := range bounds() {
		for _, t := range times {
			if t < upperEdge(b) {
				cumulative[i]++
			}
		}
	}
	return NewHistogram(bounds(), cumulative, uint64(len(times)))
}

func TestQuantilesAreInterpolatedWithinABucket(t *testing.T) {
	h := histogramOf(10, 12, 14, 16) // all between 10 and 20
	for q, want := range map[float64]float64{0.5: 15, 1: 20, 0.25: 12.5} {
		if got, ok := h.Quantile(q); !ok || got != want {
			t.Errorf("quantile %v is %v %v, want %v", q, got, ok, want)
		}
	}
}

func TestNoTrafficHasNoQuantile(t *testing.T) {
	if got, ok := (Histogram{}).Quantile(0.99); ok {
		t.Errorf("got %v", got)
	}
}

func TestAQuantileAboveAllBoundsIsTheLastBound(t *testing.T) {
	if got, ok := histogramOf(1, 9000, 9000).Quantile(0.99); !ok || got != 500 {
		t.Errorf("got %v %v, want 500", got, ok)
	}
}

func TestQuantilesOfASumAreThoseOfAllTimesTogether(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	var all []float64
	var sum Histogram
	for range 20 { // sidecars with very different latencies
		var own []float64
		scale := 1 + 100*r.Float64()
		for range 1 + r.IntN(200) {
			own = append(own, r.ExpFloat64()*scale)
		}
		all = append(all, own...)
		sum = sum.plus(histogramOf(own...))
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.95, 0.99} {
		got, ok := sum.Quantile(q)
		exact := all[int(q*float64(len(all)))]
		// The answer lies in the bucket of the exact one.
		i, _ := slices.BinarySearchFunc(bounds(), exact, func(b, t float64) int {
			if t < upperEdge(b) {
				return 1
			}
			return -1
		})
		if lo, hi := sum.start(i), sum.start(min(i+1, len(bounds()))); !ok || got < lo || got > hi {
			t.Errorf("quantile %v is %v, exactly %v, which is in the bucket %v to %v", q, got, exact, lo, hi)
		}
	}
}

func TestAHistogramWithOtherBoundsIsLeftOut(t *testing.T) {
	h := histogramOf(1, 2).plus(NewHistogram([]float64{7}, []uint64{1}, 1))
	if h.Count() != 2 {
		t.Errorf("counted %d, want the 2 that share their bounds", h.Count())
	}
}
