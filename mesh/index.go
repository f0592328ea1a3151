package mesh

import (
	"cmp"
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// set is a set of comparable values.
type set[T comparable] map[T]struct{}

func (s set[T]) add(v T)      { s[v] = struct{}{} }
func (s set[T]) has(v T) bool { _, ok := s[v]; return ok }

// marks is a set that takes no memory before something is in it.
type marks[T comparable] map[T]struct{}

func (m *marks[T]) add(v T) {
	if *m == nil {
		*m = marks[T]{}
	}
	(*m)[v] = struct{}{}
}

func (m *marks[T]) addAll(more set[T]) {
	for v := range more {
		m.add(v)
	}
}

// index says, for a thing, who depends on it. A key without dependants takes no memory.
type index[K, V comparable] map[K]set[V]

func (x index[K, V]) add(k K, v V) {
	if x[k] == nil {
		x[k] = set[V]{}
	}
	x[k].add(v)
}

func (x index[K, V]) remove(k K, v V) {
	delete(x[k], v)
	if len(x[k]) == 0 {
		delete(x, k)
	}
}

// sortedKeys gives the keys of a map in their order, so that nothing depends on a map's.
func sortedKeys[V any](m map[model.Key]V) []model.Key {
	if len(m) == 0 {
		return nil // as nearly always, of what one change has to do with
	}
	return slices.SortedFunc(maps.Keys(m), model.Key.Compare)
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// both gives the keys of two maps.
func both[K comparable, A, B any](a map[K]A, b map[K]B) set[K] {
	all := set[K]{}
	for k := range a {
		all.add(k)
	}
	for k := range b {
		all.add(k)
	}
	return all
}
