package xds

import (
	"strings"
	"time"
)

// answer takes the proxy's answer to a response: reason is empty for an acknowledgement. Answers to anything but
// the response under way are stale and mean nothing.
func (c *client) answer(t Type, nonce, reason string) {
	sub := c.subs[t]
	f := sub.flight
	if f == nil || f.nonce != nonce {
		return
	}
	sub.flight = nil
	c.unacked -= f.size
	if reason != "" {
		c.refuse(f, reason)
		return
	}
	for _, v := range f.items {
		if !v.acked {
			v.acked = true
			v.entry.keep(v)
		}
		sub.doubt.clear(v.slot().id)
	}
	for _, sl := range f.removed {
		sub.doubt.clear(sl.id)
	}
	sub.settled = true
	c.tell(Event{Kind: Acked, Type: t, Resources: len(f.items) + len(f.removed), Took: time.Since(f.sent)})
}

// refuse looks for what was wrong with a refused response. What is known to be bad is not sent again to this
// proxy. All the rest is: even where Envoy applied it, it keeps no version of anything in a refused response, and
// would report wrong ones on its next stream.
func (c *client) refuse(f *flight, reason string) {
	sub := c.subs[f.typ]
	kept := clip(reason, keptReason)
	c.tell(Event{Kind: Refused, Type: f.typ, Resources: len(f.items) + len(f.removed), Took: time.Since(f.sent), Reason: kept})
	if len(f.items) == 0 {
		return // a refused removal would be refused again
	}
	for _, sl := range f.removed {
		sub.held.set(sl.id)
		sub.gone.set(sl.id)
		sub.dirty.set(sl.id)
	}
	var rest []uint32
	bad := 0
	for _, v := range f.items {
		if len(f.items) == 1 || blames(f.typ, reason, v.Name) {
			c.condemn(f.typ, v, kept)
			bad++
			continue
		}
		rest = append(rest, v.slot().id)
	}
	if bad == 0 && c.dialect == sotw && (f.typ == Cluster || f.typ == Listener) {
		return // it takes a whole response or nothing, and nothing tells which part it was
	}
	if bad == 0 {
		half := len(rest) / 2
		sub.suspects = append(sub.suspects, rest[half:], rest[:half])
		return
	}
	for _, id := range rest {
		sub.dirty.set(id)
	}
}

// blames says whether Envoy's reason names the resource. Only clusters and listeners are judged one by one; their
// failures read "Error adding/updating cluster(s) NAME: why, NAME: why".
func blames(t Type, reason, name string) bool {
	if t != Cluster && t != Listener {
		return false
	}
	for at := 0; ; {
		i := strings.Index(reason[at:], name)
		if i < 0 {
			return false
		}
		before, after := reason[:at+i], reason[at+i+len(name):]
		if strings.HasPrefix(after, ": ") && (before == "" || strings.ContainsAny(before[len(before)-1:], " \n,'\"")) {
			return true
		}
		at += i + 1
	}
}

// condemn records that this proxy refused v. Once enough proxies did, nobody gets it any more, unless it is all there
// ever was and some proxy runs it.
func (c *client) condemn(t Type, v *version, reason string) {
	e := v.entry
	if e.layer == nil {
		return // a placeholder, which stands in no layer
	}
	if v.refused == nil {
		v.refused = map[string]string{}
	}
	v.refused[c.proxy] = reason
	e.keep(v)
	c.subs[t].dirty.set(e.slot.id) // the last good version, if there is one
	verdict := &Verdict{Resource: v.Resource, Layer: e.layer.name, Proxies: len(v.refused)}
	c.tell(Event{Kind: Condemned, Type: t, Reason: reason, Verdict: verdict})
	if v.withdrawn || len(v.refused) < min(c.rules.quorum, c.store.proxies(e.layer)) {
		return
	}
	if v.acked && (e.good == nil || e.good == v) {
		return // others run it, and there is nothing to go back to: what is wrong are the proxies that refuse it
	}
	v.withdrawn = true
	if e.good != nil {
		verdict.Good = e.good.Resource
	}
	c.tell(Event{Kind: Withdrawn, Type: t, Reason: reason, Verdict: verdict})
	if e.wanted == v {
		c.store.mark(t, e, &c.touched)
	}
}

// proxies counts the distinct proxies that see l.
func (s *Store) proxies(l *layer) int {
	distinct := map[string]struct{}{}
	for id := range l.clients.all() {
		distinct[s.clients[id].proxy] = struct{}{}
	}
	return len(distinct)
}

func (c *client) tell(e Event) {
	e.Proxy = c.proxy
	c.events = append(c.events, e)
}
