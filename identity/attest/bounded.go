package attest

import "container/list"

// bounded is a map that forgets what was put first when it is full.
type bounded[K comparable, V any] struct {
	most  int
	items map[K]*list.Element // of entry[K, V]
	order list.List           // the oldest in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newBounded[K comparable, V any](most int) *bounded[K, V] {
	return &bounded[K, V]{most: most, items: map[K]*list.Element{}}
}

func (b *bounded[K, V]) get(k K) (v V, ok bool) {
	e, ok := b.items[k]
	if !ok {
		return v, false
	}
	return e.Value.(entry[K, V]).value, true
}

func (b *bounded[K, V]) put(k K, v V) {
	b.remove(k)
	if len(b.items) >= b.most {
		b.remove(b.order.Front().Value.(entry[K, V]).key)
	}
	b.items[k] = b.order.PushBack(entry[K, V]{k, v})
}

func (b *bounded[K, V]) remove(k K) {
	if e, ok := b.items[k]; ok {
		b.order.Remove(e)
		delete(b.items, k)
	}
}
