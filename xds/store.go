package xds

import (
	"slices"
	"sync"
)

// Layer names a set of resources that a proxy may see, such as "mesh" or "pod/shop/web-1".
type Layer string

// Update is a change of one layer.
type Update struct {
	Layer  Layer
	Set    []*Resource
	Remove []Ref
}

// Store holds the resources of all layers, who sees which, and what each proxy has of them.
//
// One mutex guards all of it, the protocol state of every stream included. It is held for microseconds and never
// while anything is sent, and it spares every question about the order of locks: a change and the marks that it
// leaves on the streams concerned are one step.
type Store struct {
	synced chan struct{}

	mu      sync.Mutex
	layers  map[Layer]*layer
	tables  [typeCount]table
	clients []*client                    // by id; nil where an id is free
	doubts  map[string][typeCount]bitset // by proxy that left: what it was sent and did not acknowledge
}

// layer is one set of resources, shared by every proxy that sees it.
type layer struct {
	name    Layer
	entries int    // names it holds
	clients bitset // streams that see it
}

// table is everything of one type.
type table struct {
	byName   map[string]*slot
	slots    []*slot // by id; nil where an id is free
	free     []uint32
	vacant   int    // slots that held nothing when they were last counted, and those emptied since
	wildcard bitset // streams subscribed to everything
}

// slot is a name. It outlives the resource while some stream still has it or asks for it.
type slot struct {
	name    string
	id      uint32
	entries []*entry // one per layer that holds the name: nearly always one
	named   bitset   // streams subscribed by this name
}

// NewStore gives an empty Store. Nothing is served before MarkSynced.
func NewStore() *Store {
	s := &Store{synced: make(chan struct{}), layers: map[Layer]*layer{}, doubts: map[string][typeCount]bitset{}}
	for t := range s.tables {
		s.tables[t].byName = map[string]*slot{}
	}
	return s
}

// MarkSynced says that everything known at the start was published. Until then streams wait, so that no proxy is
// ever told that the mesh is empty.
func (s *Store) MarkSynced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.synced:
	default:
		close(s.synced)
	}
}

// Synced is closed by MarkSynced.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// Publish makes the updates visible all at once and hands what changed to every proxy that sees it and is ready
// for more. It does not wait for slow ones. Resources whose content is what it was cost nothing.
func (s *Store) Publish(updates ...Update) {
	s.mu.Lock()
	var touched bitset
	for _, u := range updates {
		l := s.layer(u.Layer)
		for _, r := range u.Set {
			s.set(l, r, &touched)
		}
		for _, ref := range u.Remove {
			s.remove(l, ref, &touched)
		}
		s.dropIfUnused(l)
	}
	s.sweep()
	woken := s.pushersOf(touched)
	s.mu.Unlock()
	pushAll(woken)
}

// layer gives the layer of that name, which exists from its first mention on.
func (s *Store) layer(name Layer) *layer {
	l := s.layers[name]
	if l == nil {
		l = &layer{name: name}
		s.layers[name] = l
	}
	return l
}

func (s *Store) dropIfUnused(l *layer) {
	if l.entries == 0 && l.clients.empty() {
		delete(s.layers, l.name)
	}
}

func (s *Store) set(l *layer, r *Resource, touched *bitset) {
	sl := s.tables[r.Type].intern(r.Name)
	e := sl.entry(l)
	if e == nil {
		if len(sl.entries) == 0 {
			s.tables[r.Type].vacant--
		}
		e = &entry{layer: l, slot: sl}
		sl.entries = append(sl.entries, e)
		l.entries++
	}
	if e.publish(r) {
		s.mark(r.Type, e, touched)
	}
}

func (s *Store) remove(l *layer, ref Ref, touched *bitset) {
	sl := s.tables[ref.Type].byName[ref.Name]
	if sl == nil {
		return
	}
	e := sl.entry(l)
	if e == nil {
		return
	}
	s.mark(ref.Type, e, touched)
	sl.entries = slices.DeleteFunc(sl.entries, func(o *entry) bool { return o == e })
	l.entries--
	if len(sl.entries) == 0 {
		s.tables[ref.Type].vacant++
	}
}

// mark notes a change of e on every stream that it reaches: those that see its layer, have no layer above it with
// the same name, and subscribed to it.
func (s *Store) mark(t Type, e *entry, touched *bitset) {
	wild := s.tables[t].wildcard
	reached := make(bitset, len(e.layer.clients))
	for i, seen := range e.layer.clients {
		reached[i] = seen & (wild.at(i) | e.slot.named.at(i))
	}
	for id := range reached.all() {
		if c := s.clients[id]; c.topmost(e.slot) == e {
			c.subs[t].dirty.set(e.slot.id)
			touched.set(id)
		}
	}
}

func (s *Store) pushersOf(touched bitset) []func() {
	woken := make([]func(), 0, touched.count())
	for id := range touched.all() {
		woken = append(woken, s.clients[id].push)
	}
	return woken
}

// intern gives the slot of name, making one if there is none.
func (t *table) intern(name string) *slot {
	if sl := t.byName[name]; sl != nil {
		return sl
	}
	t.vacant++
	sl := &slot{name: name, id: uint32(len(t.slots))}
	if n := len(t.free); n > 0 {
		sl.id, t.free = t.free[n-1], t.free[:n-1]
		t.slots[sl.id] = sl
	} else {
		t.slots = append(t.slots, sl)
	}
	t.byName[name] = sl
	return sl
}

func (sl *slot) entry(l *layer) *entry {
	for _, e := range sl.entries {
		if e.layer == l {
			return e
		}
	}
	return nil
}
