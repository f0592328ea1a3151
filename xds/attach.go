package xds

import "slices"

// attach makes a stream part of the store.
func (s *Store) attach(c *client, stack []Layer) {
	c.store = s
	c.past = s.recall(c.proxy)
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

// detach removes a stream and every trace of it, except what it leaves in doubt.
func (s *Store) detach(c *client) {
	c.closed = true
	doubts := c.past
	for t, sub := range c.subs {
		if sub == nil {
			continue
		}
		doubts[t] = sub.doubt
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
	s.remember(c.proxy, doubts)
	s.sweep()
}

// remember keeps what a proxy that left is in doubt about. The number of proxies is bounded: one that is forgotten
// is, at worst, not corrected should it have refused something in its last moments.
func (s *Store) remember(proxy string, doubts [typeCount]bitset) {
	const most = 1000
	if !slices.ContainsFunc(doubts[:], func(b bitset) bool { return !b.empty() }) {
		return
	}
	for other := range s.doubts {
		if len(s.doubts) < most {
			break
		}
		delete(s.doubts, other)
	}
	s.doubts[proxy] = doubts
}

// recall gives what earlier streams of the proxy left in doubt, those included that have not ended yet: a proxy may
// be back before its old connection is known to be broken.
func (s *Store) recall(proxy string) [typeCount]bitset {
	doubts := s.doubts[proxy]
	delete(s.doubts, proxy)
	for _, c := range s.clients {
		if c == nil || c.proxy != proxy {
			continue
		}
		for t, sub := range c.subs {
			if sub != nil {
				doubts[t].add(sub.doubt)
			}
		}
	}
	return doubts
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
		for _, doubts := range s.doubts {
			used.add(doubts[t])
		}
		for _, c := range s.clients {
			if c == nil {
				continue
			}
			used.add(c.past[t])
			if c.subs[t] != nil {
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
	for _, set := range []bitset{s.named, s.held, s.dirty, s.doubt} {
		used.add(set)
	}
	for _, group := range s.suspects {
		for _, id := range group {
			used.set(id)
		}
	}
	if s.flight == nil {
		return
	}
	for _, v := range s.flight.items {
		used.set(v.slot().id)
	}
	for _, sl := range s.flight.removed {
		used.set(sl.id)
	}
}
