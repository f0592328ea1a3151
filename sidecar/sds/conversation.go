package sds

import (
	"maps"
	"slices"
	"strconv"
)

// conversation is what one stream has said and was sent. It is values in, values out; the shell around it does the
// talking.
type conversation struct {
	names []string // the only ones there are
	wants map[string]*subscription
	sent  int // the last nonce
	open  map[string]letter
	told  map[string]bool // unknown names that were remarked on; state of the world repeats them in each request
}

// subscription is one secret that the client asked for.
type subscription struct {
	version string // sent last, or held before this stream
	taken   string // accepted last
	waiting bool   // for the answer to version
}

// letter is a response that was not answered yet.
type letter struct{ name, version string }

// question is a request of either flavour.
type question struct {
	nonce       string            // of the response that it answers; empty: of none
	refusal     *string           // why that response is refused
	subscribe   []string          // delta
	unsubscribe []string          // delta
	held        map[string]string // delta: versions from an earlier stream
	all         []string          // state of the world: everything wanted; nil: delta
}

// remark is what a question told besides wishes.
type remark struct {
	unknown                  []string
	refused, version, reason string
}

// dispatch is one secret to be sent.
type dispatch struct {
	name, nonce string
	secret      secret
}

func newConversation(names []string) *conversation {
	return &conversation{
		names: names, wants: map[string]*subscription{}, open: map[string]letter{}, told: map[string]bool{},
	}
}

// hear takes in a question.
func (c *conversation) hear(q question) remark {
	var r remark
	c.answer(q, &r)
	subscribe := q.subscribe
	if q.all != nil {
		// Only an answer to the last response, or to none, speaks of what is wanted now: an older one repeats what
		// was wanted when it was written (xDS protocol, "knowing when a requested resource does not exist").
		if q.nonce != "" && q.nonce != strconv.Itoa(c.sent) {
			return r
		}
		subscribe = q.all
		maps.DeleteFunc(c.wants, func(name string, _ *subscription) bool { return !slices.Contains(q.all, name) })
	}
	for _, name := range subscribe {
		if !slices.Contains(c.names, name) {
			if !c.told[name] {
				c.told[name] = true
				r.unknown = append(r.unknown, name)
			}
			continue
		}
		// Asking again by delta means that the client no longer has it; with state of the world it is repetition.
		if q.all == nil || c.wants[name] == nil {
			held := q.held[name]
			c.wants[name] = &subscription{version: held, taken: held}
		}
	}
	for _, name := range q.unsubscribe {
		delete(c.wants, name)
	}
	return r
}

// answer settles the response that q speaks of. What was subscribed anew since does not wait for it.
func (c *conversation) answer(q question, r *remark) {
	l, known := c.open[q.nonce]
	if !known {
		return
	}
	delete(c.open, q.nonce)
	sub := c.wants[l.name]
	if sub != nil && sub.version == l.version {
		sub.waiting = false
		if q.refusal == nil {
			sub.taken = l.version
		}
	}
	if q.refusal != nil {
		r.refused, r.version, r.reason = l.name, l.version, *q.refusal
	}
}

// due gives what must be sent now, each secret in a response of its own, and takes it for sent. Nothing is sent twice,
// and no second version before the first is answered.
func (c *conversation) due(secrets map[string]secret) []dispatch {
	var out []dispatch
	for _, name := range slices.Sorted(maps.Keys(c.wants)) {
		sub, s := c.wants[name], secrets[name]
		if sub.waiting || s.version == sub.version || s.resource == nil {
			continue
		}
		c.sent++
		nonce := strconv.Itoa(c.sent)
		c.open[nonce] = letter{name, s.version}
		sub.version, sub.waiting = s.version, true
		out = append(out, dispatch{name: name, nonce: nonce, secret: s})
	}
	return out
}

// taken gives the accepted version of each secret that is wanted.
func (c *conversation) taken() map[string]string {
	out := make(map[string]string, len(c.wants))
	for name, sub := range c.wants {
		out[name] = sub.taken
	}
	return out
}
