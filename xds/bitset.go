package xds

import (
	"iter"
	"math/bits"
	"slices"
)

// bitset is a set of small dense numbers: a few hundred bytes where a map would need tens of thousands.
type bitset []uint64

func (b bitset) has(i uint32) bool {
	w := int(i / 64)
	return w < len(b) && b[w]&(1<<(i%64)) != 0
}

func (b *bitset) set(i uint32) {
	w := int(i / 64)
	if w >= len(*b) {
		grown := make(bitset, w+1)
		copy(grown, *b)
		*b = grown
	}
	(*b)[w] |= 1 << (i % 64)
}

func (b bitset) clear(i uint32) {
	if w := int(i / 64); w < len(b) {
		b[w] &^= 1 << (i % 64)
	}
}

// add puts all members of o into b.
func (b *bitset) add(o bitset) {
	if missing := len(o) - len(*b); missing > 0 {
		*b = append(slices.Clone(*b), make(bitset, missing)...)
	}
	for i, w := range o {
		(*b)[i] |= w
	}
}

func (b bitset) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitset) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// all yields the members in ascending order. Members may be cleared while it runs.
func (b bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, w := range b {
			for ; w != 0; w &= w - 1 {
				if !yield(uint32(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// at gives the i-th word, zero beyond the end, so that sets of different sizes combine word by word.
func (b bitset) at(i int) uint64 {
	if i < len(b) {
		return b[i]
	}
	return 0
}
