package xds

import (
	"time"

	"golang.org/x/time/rate"
)

// turnAt says how long a stream's first response has to wait because much is being sent to others that start; zero if
// it has not. It waits rather than being turned away, since it would come back and cost as much again. There is one
// turn per stream: what follows is only charged, since an Envoy that has clusters does not wait long for their
// endpoints. A response with nothing in it, as one to a proxy that has all, needs no turn.
func (c *client) turnAt(t Type, now time.Time) time.Time {
	sub, lane := c.subs[t], c.lane()
	if c.started || sub.settled || sub.dirty.empty() {
		return time.Time{}
	}
	if c.turn == nil && lane.TokensAt(now) <= 0 {
		c.turn = lane.ReserveN(now, min(c.sizeOf(t), lane.Burst()))
	}
	if c.turn != nil {
		if wait := c.turn.DelayFrom(now); wait > 0 {
			return now.Add(wait)
		}
	}
	c.started = true
	return time.Time{}
}

// lane is what the stream's first responses are counted in.
func (c *client) lane() *rate.Limiter {
	if c.knows {
		return c.rules.returned
	}
	return c.rules.empty
}

// sizeOf is how many bytes are to be sent of a type.
func (c *client) sizeOf(t Type) (size int) {
	for id := range c.subs[t].dirty.all() {
		if v, _ := c.lookup(t, c.store.tables[t].slots[id]); v != nil {
			size += v.delta.Len()
		}
	}
	return size
}

// charge counts the first response of a type, unless its turn did.
func (c *client) charge(f *flight, now time.Time) {
	switch {
	case c.turn != nil:
		c.turn = nil
	case !c.subs[f.typ].settled && f.size > 0:
		c.lane().ReserveN(now, min(f.size, c.lane().Burst()))
	}
}

// giveUpTurn lets those that come have the turn of a stream that ends; who waits already keeps its own.
func (c *client) giveUpTurn(now time.Time) {
	if c.turn != nil {
		c.turn.CancelAt(now)
	}
}
