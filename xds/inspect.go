package xds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// StreamState is what one stream has been sent and has answered, for people.
type StreamState struct {
	Proxy string // node id
	Types []TypeState
}

// TypeState is one type that a stream is subscribed to.
type TypeState struct {
	Type      Type
	Resources int    // that the proxy is to have
	Version   string // of all of them together: the same on every proxy that is to have the same
	Synced    bool   // the proxy has acknowledged all of them, and nothing is on its way
	Refused   []RefusedResource
}

// RefusedResource is what the proxy would not take, and why. It keeps what it had before, or the last good version.
type RefusedResource struct {
	Name, Version, Reason string
}

// Streams tells of every stream of the proxies that match, in the order of their names. It holds the store for one stream
// at a time.
func (s *Store) Streams(match func(proxy string) bool) []StreamState {
	s.mu.Lock()
	var wanted []*client
	for _, c := range s.clients {
		if c != nil && match(c.proxy) {
			wanted = append(wanted, c)
		}
	}
	s.mu.Unlock()
	states := make([]StreamState, 0, len(wanted))
	for _, c := range wanted {
		if state, ok := s.stateOf(c); ok {
			states = append(states, state)
		}
	}
	slices.SortFunc(states, func(a, b StreamState) int { return cmp.Compare(a.Proxy, b.Proxy) })
	return states
}

// stateOf tells of a stream, unless it has ended meanwhile.
func (s *Store) stateOf(c *client) (StreamState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := StreamState{Proxy: c.proxy}
	for t, sub := range c.subs {
		if sub != nil {
			state.Types = append(state.Types, c.typeState(Type(t)))
		}
	}
	return state, !c.closed
}

func (c *client) typeState(t Type) TypeState {
	state := TypeState{Type: t, Synced: c.subs[t].confirmed()}
	served := c.servedOf(t)
	state.Resources = len(served)
	sum := sha256.New()
	for _, v := range served {
		fmt.Fprintf(sum, "%s %s\n", v.Name, v.Version)
	}
	state.Version = hex.EncodeToString(sum.Sum(nil)[:6])
	for id := range c.subs[t].held.all() {
		sl := c.store.tables[t].slots[id]
		if e := c.topmost(sl); e != nil && e.wanted.refused[c.proxy] != "" {
			state.Refused = append(state.Refused, RefusedResource{sl.name, e.wanted.Version, e.wanted.refused[c.proxy]})
		}
	}
	slices.SortFunc(state.Refused, func(a, b RefusedResource) int { return cmp.Compare(a.Name, b.Name) })
	return state
}

// servedOf is what the proxy is to have of a type, in the order of names.
func (c *client) servedOf(t Type) []*version {
	sub := c.subs[t]
	var out []*version
	for _, sl := range c.store.tables[t].slots {
		if sl == nil || !sub.wildcard && !sub.named.has(sl.id) {
			continue
		}
		if v, exists := c.lookup(t, sl); exists && v != nil {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *version) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Served gives what one of a proxy's streams is served, ordered by type and name; false if it has none.
func (s *Store) Served(proxy string) ([]*Resource, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Resource
	for _, c := range s.clients {
		if c == nil || c.closed || c.proxy != proxy {
			continue
		}
		for t, sub := range c.subs {
			if sub == nil {
				continue
			}
			for _, v := range c.servedOf(Type(t)) {
				out = append(out, v.Resource)
			}
		}
		return out, true
	}
	return nil, false
}

// View gives what a proxy would be served that sees these layers, the most specific first, and asks for everything.
func (s *Store) View(layers []Layer) []*Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	viewer := &client{store: s}
	for _, name := range layers {
		if l := s.layers[name]; l != nil {
			viewer.stack = append(viewer.stack, l)
		}
	}
	var out []*Resource
	for t := range typeCount {
		viewer.subs[t] = &subscription{wildcard: true}
		for _, v := range viewer.servedOf(t) {
			out = append(out, v.Resource)
		}
	}
	return out
}
