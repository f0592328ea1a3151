package xds

import (
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// removal is a resource to be said gone once nothing can point to it any more.
type removal struct {
	typ Type
	id  uint32
	due time.Time // zero while listeners and routes are still changing
}

// next gives the response to send now and counts it as sent, or nil and when to look again without an event (zero:
// not at all).
func (c *client) next(now time.Time) (f *flight, again time.Time) {
	for {
		f, held := c.pick(now)
		if f != nil {
			return f, time.Time{}
		}
		released, leaving := c.release(now)
		if !released {
			return nil, sooner(held, leaving)
		}
	}
}

// pick takes the first type, in their order, that has something to send and no response under way. If listeners or
// routes are held back, it says until when.
func (c *client) pick(now time.Time) (f *flight, held time.Time) {
	if !c.subs[Cluster].busy() {
		c.waiting = time.Time{}
	}
	for t := range typeCount {
		sub := c.subs[t]
		if sub == nil || sub.flight != nil || !sub.pending() {
			continue
		}
		if until := c.heldUntil(t, now); !until.IsZero() {
			held = until
			continue
		}
		if until := c.turnAt(t, now); !until.IsZero() {
			return nil, until // and no later type before this one
		}
		if f := c.gather(t); f != nil {
			c.charge(f, now)
			c.nonces++
			f.nonce, f.sent = c.rules.nonce(c.nonces), now
			sub.flight, sub.nonce, sub.owed = f, f.nonce, false
			c.unacked += f.size
			for _, v := range f.items {
				sub.doubt.set(v.slot().id)
			}
			for _, sl := range f.removed {
				sub.doubt.set(sl.id)
			}
			c.follow(f)
			return f, held
		}
	}
	return nil, held
}

// heldUntil says how long listeners and routes wait for clusters: until the proxy has confirmed the clusters that
// they may use, but not for ever, because Envoy confirms nothing while any cluster warms.
func (c *client) heldUntil(t Type, now time.Time) time.Time {
	if t != Listener && t != Route || !c.subs[Cluster].busy() {
		return time.Time{}
	}
	if c.waiting.IsZero() {
		c.waiting = now
	}
	if until := c.waiting.Add(c.rules.warming); now.Before(until) {
		return until
	}
	return time.Time{}
}

// gather collects what is to be sent of a type; nil if it is nothing.
func (c *client) gather(t Type) *flight {
	sub := c.subs[t]
	f := &flight{typ: t}
	for len(sub.suspects) > 0 && f.empty() {
		last := len(sub.suspects) - 1
		group := sub.suspects[last]
		sub.suspects = sub.suspects[:last]
		for _, id := range group {
			c.collect(f, id)
		}
	}
	if f.empty() {
		f.items = make([]*version, 0, sub.dirty.count())
		for id := range sub.dirty.all() {
			c.collect(f, id)
		}
	}
	if f.empty() && !sub.owed {
		return nil
	}
	if c.dialect == sotw && (t == Cluster || t == Listener) {
		c.complete(f)
	}
	return f
}

// complete adds what the proxy has already: in SotW, what a response with clusters or listeners lacks is deleted. That
// includes clusters that are gone and whose removal may not be said yet.
func (c *client) complete(f *flight) {
	sub := c.subs[f.typ]
	fresh := bitset{}
	for _, v := range f.items {
		fresh.set(v.slot().id)
	}
	for id := range sub.held.all() {
		if fresh.has(id) {
			continue
		}
		sl := c.store.tables[f.typ].slots[id]
		if v, _ := c.lookup(f.typ, sl); v != nil {
			f.items = append(f.items, v)
			f.stale.set(id)
			f.size += v.sotw.Len()
		}
	}
	for _, v := range sub.whole {
		id := v.slot().id
		if !sub.held.has(id) || c.store.tables[f.typ].slots[id] != v.slot() || v.refused[c.proxy] != "" {
			continue
		}
		if _, exists := c.lookup(f.typ, v.slot()); !exists {
			f.items = append(f.items, v)
			f.stale.set(id)
			f.size += v.sotw.Len()
		}
	}
	if f.typ == Cluster {
		sub.whole = f.items
	}
}

// collect puts one dirty name into f, as what it is by now.
func (c *client) collect(f *flight, id uint32) {
	sub, sl := c.subs[f.typ], c.store.tables[f.typ].slots[id]
	sub.dirty.clear(id)
	v, exists := c.lookup(f.typ, sl)
	switch {
	case v != nil:
		f.items = append(f.items, v)
		if sub.offered.has(id) {
			f.offered.set(id)
		}
		f.size += v.delta.Len()
		sub.held.set(id)
		sub.gone.clear(id)
		c.stays(f.typ, id)
	case exists: // withheld
	case f.typ == Route && sub.named.has(id) && !sub.held.has(id) && c.placehold(f, sl):
	case c.dialect == sotw && (f.typ == Endpoints || f.typ == Route): // there is no way to say it
		sub.held.clear(id)
	case sub.held.has(id) && !sub.gone.has(id) && stage(f.typ) > 0:
		c.leaving = append(c.leaving, removal{typ: f.typ, id: id})
	case sub.held.has(id), sub.named.has(id):
		f.removed = append(f.removed, sl)
		f.size += len(sl.name)
		sub.held.clear(id)
		sub.gone.clear(id)
	}
	sub.offered.clear(id)
}

// placehold answers a request for a route that does not exist with one that has no routes, so that requests get 404.
// To be told that it is gone does not help an Envoy: it then gives up its own time limit as well, the listener warms
// for ever, and one that has just started never becomes ready (seen with Envoy 1.40).
func (c *client) placehold(f *flight, sl *slot) bool {
	r, err := NewResource(sl.name, &routev3.RouteConfiguration{Name: sl.name})
	if err != nil {
		return false // no name that a route could have
	}
	f.items = append(f.items, &version{Resource: r, entry: &entry{slot: sl}})
	f.size += r.delta.Len()
	c.subs[f.typ].held.set(sl.id)
	return true
}

// stays forgets a removal that was noticed and not said yet.
func (c *client) stays(t Type, id uint32) {
	c.leaving = slices.DeleteFunc(c.leaving, func(r removal) bool { return r.typ == t && r.id == id })
}

// stage orders removals, in multiples of the grace: listeners at once, then the clusters that they used, and last
// what Envoy itself stops asking for when its listener or cluster is gone, so that nothing is left to say.
func stage(t Type) int {
	return [...]int{Listener: 0, Cluster: 1, Endpoints: 2, Route: 2}[t]
}

// release lets go the removals whose time has come, and says when the next one's does.
func (c *client) release(now time.Time) (released bool, again time.Time) {
	if len(c.leaving) == 0 || c.subs[Listener].busy() || c.subs[Route].busy() {
		return false, time.Time{}
	}
	waiting := c.leaving[:0]
	for _, r := range c.leaving {
		if r.due.IsZero() {
			r.due = now.Add(c.rules.grace * time.Duration(stage(r.typ)))
		}
		if now.Before(r.due) {
			again = sooner(again, r.due)
			waiting = append(waiting, r)
			continue
		}
		sub := c.subs[r.typ]
		if _, exists := c.lookup(r.typ, c.store.tables[r.typ].slots[r.id]); !exists && sub.held.has(r.id) {
			sub.gone.set(r.id)
			sub.dirty.set(r.id)
			released = true
		}
	}
	c.leaving = waiting
	return released, again
}

// follow marks what has to go out behind f without being asked for: the endpoints of a cluster sent again, for which
// Envoy waits but does not ask; and, on a stream past its start, what a new cluster or listener is certain to be
// asked for next, which saves a round trip.
func (c *client) follow(f *flight) {
	var target Type
	switch f.typ {
	case Cluster:
		target = Endpoints
	case Listener:
		target = Route
	default:
		return
	}
	if c.subs[target] == nil {
		return
	}
	sub := c.subs[target]
	for _, v := range f.items {
		if f.stale.has(v.slot().id) {
			continue
		}
		for _, name := range v.uses {
			sl := c.store.tables[target].byName[name]
			switch {
			case sl == nil:
			case !sub.named.has(sl.id) && c.subs[f.typ].settled && c.dialect == delta:
				sub.dirty.set(sl.id)
				sub.offered.set(sl.id)
			case sub.named.has(sl.id) && target == Endpoints:
				sub.dirty.set(sl.id)
			}
		}
	}
}

// sooner gives the earlier of two times, of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
