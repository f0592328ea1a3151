package xds

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// open begins a type on a stream.
func (c *client) open(t Type) *subscription {
	sub := &subscription{doubt: c.past[t]}
	c.subs[t] = sub
	return sub
}

// know takes over what the proxy says it has from an earlier stream. What it has in the version that it is to have
// is not sent again; what is gone since is removed.
//
// What it says is not always what runs. Nothing of a refused response is in it, though Envoy applied parts of it: so
// whatever was sent before and never acknowledged counts as neither there nor gone. And a cluster on its way waits
// for its endpoints to be sent, whatever the proxy has of them; if endpoints are asked for before clusters, then such
// a cluster is warming and holds Envoy's request for clusters back.
func (c *client) know(t Type, versions map[string]string) {
	sub := c.subs[t]
	clusters := c.subs[Cluster]
	if t == Endpoints && clusters != nil && clusters.flight != nil {
		for _, v := range clusters.flight.items {
			for _, name := range v.uses {
				delete(versions, name)
			}
		}
	}
	c.knows = c.knows || len(versions) > 0
	for name, version := range versions {
		sl := c.store.tables[t].intern(name)
		sub.held.set(sl.id)
		v, exists := c.lookup(t, sl)
		if v != nil && v.Version == version && !sub.doubt.has(sl.id) {
			v.acked = true // by an earlier stream, maybe of an earlier control plane
		}
		if !exists || v != nil && v.Version != version || t == Endpoints && clusters == nil {
			sub.dirty.set(sl.id)
		}
	}
	for id := range sub.doubt.all() {
		sub.held.set(id)
		sub.dirty.set(id)
	}
}

// subscribe adds names. Each is answered, even if the proxy should have it: it may have forgotten it and asked
// again before it could say so (discovery.proto, resource_names_subscribe). The exceptions are what it has just
// said it has, and what is on its way already because it was certain to ask.
func (c *client) subscribe(t Type, names []string, known map[string]string) error {
	sub := c.subs[t]
	for _, name := range names {
		if name == wildcard {
			c.subscribeAll(t)
			continue
		}
		sub.explicit = true
		sl := c.store.tables[t].intern(name)
		sub.named.set(sl.id)
		sl.named.set(c.id)
		if _, has := known[name]; has || c.underway(t, sl) {
			continue
		}
		sub.dirty.set(sl.id)
	}
	return c.bounded(t, sub.named.count())
}

func (c *client) subscribeAll(t Type) {
	sub := c.subs[t]
	tab := &c.store.tables[t]
	sub.wildcard, sub.owed = true, true
	tab.wildcard.set(c.id)
	for _, sl := range tab.slots {
		if sl == nil || sub.held.has(sl.id) {
			continue
		}
		if _, exists := c.lookup(t, sl); exists {
			sub.dirty.set(sl.id)
		}
	}
}

// unsubscribe removes names. A name that is also part of the wildcard has to be answered with what it is there, or
// that it is gone: the proxy cannot tell which of the two it had it from (Envoy, DeltaSubscriptionState).
func (c *client) unsubscribe(t Type, names []string) {
	sub := c.subs[t]
	for _, name := range names {
		if name == wildcard {
			c.unsubscribeAll(t)
			continue
		}
		sub.explicit = true
		sl := c.store.tables[t].byName[name]
		if sl == nil || !sub.named.has(sl.id) {
			continue
		}
		sub.named.clear(sl.id)
		sl.named.clear(c.id)
		if sub.wildcard {
			sub.dirty.set(sl.id)
		} else {
			sub.forget(sl.id)
		}
	}
}

func (c *client) unsubscribeAll(t Type) {
	sub := c.subs[t]
	sub.wildcard, sub.explicit = false, true
	c.store.tables[t].wildcard.clear(c.id)
	sub.prune()
}

// prune forgets what is not asked for by name.
func (s *subscription) prune() {
	for _, set := range []bitset{s.held, s.dirty} {
		for id := range set.all() {
			if !s.named.has(id) {
				s.forget(id)
			}
		}
	}
}

// forget drops a name that the proxy has no use for any more.
func (s *subscription) forget(id uint32) {
	for _, set := range []bitset{s.held, s.dirty, s.offered, s.gone} {
		set.clear(id)
	}
}

// underway says that what the stream is to have in the slot is on its way, sent before it was asked for.
func (c *client) underway(t Type, sl *slot) bool {
	f := c.subs[t].flight
	if f == nil || !f.offered.has(sl.id) {
		return false
	}
	i, ok := slices.BinarySearchFunc(f.items, sl.id, func(v *version, id uint32) int { return cmp.Compare(v.slot().id, id) })
	v, _ := c.lookup(t, sl)
	return ok && f.items[i] == v
}

// longestName is far above what is published: Kubernetes' own names have at most 253 bytes.
const longestName = 1000

// admit refuses absurd requests. It is asked before anything is remembered, and without Store.mu: whoever holds that
// holds every other stream up.
func (r *rules) admit(q request) error {
	switch q := q.(type) {
	case *discoveryv3.DiscoveryRequest:
		return r.admitNames(q.GetTypeUrl(), len(q.GetResourceNames()), slices.Values(q.GetResourceNames()))
	case *discoveryv3.DeltaDiscoveryRequest:
		known := q.GetInitialResourceVersions()
		return cmp.Or(
			r.admitNames(q.GetTypeUrl(), len(q.GetResourceNamesSubscribe()), slices.Values(q.GetResourceNamesSubscribe())),
			r.admitNames(q.GetTypeUrl(), len(q.GetResourceNamesUnsubscribe()), slices.Values(q.GetResourceNamesUnsubscribe())),
			r.admitNames(q.GetTypeUrl(), len(known), maps.Keys(known)),
		)
	}
	return nil
}

func (r *rules) admitNames(url string, n int, names iter.Seq[string]) error {
	if n > r.names {
		return status.Errorf(codes.ResourceExhausted, "%d names in one request for %.100q; ask for at most %d", n, url, r.names)
	}
	for name := range names {
		if len(name) > longestName {
			return status.Errorf(codes.ResourceExhausted, "a name of %d bytes in a request for %.100q; names have at most %d", len(name), url, longestName)
		}
	}
	return nil
}

// bounded refuses absurd numbers of names.
func (c *client) bounded(t Type, n int) error {
	if n > c.rules.names {
		return status.Errorf(codes.ResourceExhausted, "%d names of type %v on one stream; at most %d are served", n, t, c.rules.names)
	}
	return nil
}
