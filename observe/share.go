package observe

import "maps"

// share is how many places each node holds.
type share map[string]int

func (s share) add(node string, n int) {
	s[node] += n
	if s[node] <= 0 {
		delete(s, node)
	}
}

// largest is the node that holds most.
func (s share) largest() (node string, held int) {
	for name, n := range s {
		if n > held {
			node, held = name, n
		}
	}
	return node, held
}

// makeRoom forgets something so that node finds a place. If nobody holds more than its share the oldest slot goes. One
// that does loses what it counted first; in the present slot too, unless it is itself what asks.
func (w *window) makeRoom(node string) {
	last := len(w.slots) - 1
	greedy, held := w.held.largest()
	if held <= w.fairShare() {
		if last > 0 {
			w.forget(w.slots[1].start)
		}
		return
	}
	for i := range w.slots[:last] {
		if w.forgetIn(i, greedy) > 0 {
			return
		}
	}
	if greedy != node {
		w.dropped += uint64(w.forgetIn(last, greedy))
	}
}

// forgetIn drops what a node counted in one slot.
func (w *window) forgetIn(slot int, node string) int {
	samples, held := w.slots[slot].samples, w.slots[slot].held
	n := held[node]
	if n == 0 {
		return 0
	}
	maps.DeleteFunc(samples, func(s series, _ *Sample) bool { return s.node == node })
	delete(held, node)
	w.samples -= n
	w.held.add(node, -n)
	return n
}
