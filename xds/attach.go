package xds

import "slices"

// attach makes a stream part of the store.
func (s *Store) attach(c *client, stack []Layer) {
	c.store = s
	c.id = uint32(len(s.clients))
	if i := slices.Index(s.clients, nil); i >= 0 {
		c.id = uint32(i)
		s.clients[i] = c
	} else {
		s.clients = append(s.clients, c)
	}
	for _, name := range stack {
		l := s.layer(name)
		l.clients.set(c.id)
		c.stack = append(c.stack, l)
	}
}

// detach removes a stream and every trace of it, except that its last words were a refusal.
func (s *Store) detach(c *client) {
	c.closed = true
	var unsettled bitset
	for t, sub := range c.subs {
		if sub == nil {
			continue
		}
		if sub.refused {
			unsettled.set(uint32(t))
		}
		tab := &s.tables[t]
		tab.wildcard.clear(c.id)
		for id := range sub.named.all() {
			tab.slots[id].named.clear(c.id)
		}
	}
	for _, l := range c.stack {
		l.clients.clear(c.id)
		s.dropIfUnused(l)
	}
	s.clients[c.id] = nil
	s.remember(c.proxy, unsettled)
	s.sweep()
}

// remember keeps for which types a proxy left with a refusal behind it. The number is bounded: a proxy that is
// forgotten gets, at worst, something again that it has.
func (s *Store) remember(proxy string, unsettled bitset) {
	const most = 1000
	delete(s.unsettled, proxy)
	if unsettled.empty() {
		return
	}
	for other := range s.unsettled {
		if len(s.unsettled) < most {
			break
		}
		delete(s.unsettled, other)
	}
	s.unsettled[proxy] = unsettled
}

// sweep frees the slots of names that no layer holds and no stream has or asks for. It looks at everything, so it
// waits until there are many of them.
func (s *Store) sweep() {
	for t := range s.tables {
		tab := &s.tables[t]
		if tab.vacant < 1000 || tab.vacant < len(tab.byName)/2 {
			continue
		}
		used := make(bitset, len(tab.slots)/64+1)
		for _, c := range s.clients {
			if c != nil && c.subs[t] != nil {
				c.subs[t].uses(&used)
				for _, r := range c.leaving {
					if r.typ == Type(t) {
						used.set(r.id)
					}
				}
			}
		}
		tab.vacant = 0
		for _, sl := range tab.slots {
			switch {
			case sl == nil || len(sl.entries) > 0:
			case used.has(sl.id):
				tab.vacant++
			default:
				delete(tab.byName, sl.name)
				tab.slots[sl.id] = nil
				tab.free = append(tab.free, sl.id)
			}
		}
	}
}

// uses adds every slot that the subscription refers to.
func (s *subscription) uses(used *bitset) {
	for _, set := range []bitset{s.named, s.held, s.dirty} {
		for id := range set.all() {
			used.set(id)
		}
	}
	for _, group := range s.suspects {
		for _, id := range group {
			used.set(id)
		}
	}
	if s.flight == nil {
		return
	}
	for _, it := range s.flight.items {
		used.set(it.slot.id)
	}
	for _, sl := range s.flight.removed {
		used.set(sl.id)
	}
}
