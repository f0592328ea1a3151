package xds

import (
	"time"

	"golang.org/x/time/rate"
)

// wildcard is the name that subscribes to everything of a type.
const wildcard = "*"

// client is one stream as the protocol sees it: what the proxy asked for, has, and still has to be told. Its
// methods neither block nor send; all of it is guarded by Store.mu.
type client struct {
	store   *Store
	rules   *rules
	dialect dialect
	id      uint32
	proxy   string
	stack   []*layer // most specific first
	subs    [typeCount]*subscription
	past    [typeCount]bitset // doubt from earlier streams of the proxy
	push    func()            // sends what is due; never blocks

	nonces  uint64
	unacked int // bytes sent and not acknowledged
	sending bool
	closed  bool

	knows   bool              // the proxy had something from an earlier stream
	started bool              // it had its turn for its first response
	turn    *rate.Reservation // until then, if it has to wait

	waiting time.Time // since when listeners or routes wait for clusters; zero if none do
	leaving []removal // in the order in which they were noticed
	touched bitset    // streams that a refusal concerns, to be pushed to once the lock is free
	events  []Event   // to be told to the observer then, by the one goroutine that adds to it
}

// dialect is one of the two protocols.
type dialect uint8

const (
	delta dialect = iota
	sotw
)

// rules are the parts of Options that the protocol depends on.
type rules struct {
	warming time.Duration
	grace   time.Duration
	quorum  int
	names   int
	nonce   func(response uint64) string

	empty, returned *rate.Limiter // bytes of first responses, to proxies that have nothing, and something
}

// subscription is the state of one type on one stream. At 4,000 names each set is 500 bytes.
type subscription struct {
	wildcard bool
	explicit bool   // has named anything, so that an empty list no longer means everything
	named    bitset // asked for by name
	held     bitset // sent before, in some version: the proxy has it, unless it refused it
	dirty    bitset // to be sent, or said to be gone
	offered  bitset // of dirty: not asked for yet, but certain to be
	gone     bitset // of dirty: its removal may be said now
	doubt    bitset // sent and not acknowledged since: the proxy may have it, and may say that it has not
	owed     bool   // a response is due, even an empty one
	settled  bool   // some response was acknowledged
	flight   *flight
	nonce    string     // of the last response
	suspects [][]uint32 // parts of refused responses, to be sent apart
	whole    []*version // SotW, clusters: the last response, so that what is about to go can be in the next one
}

// flight is the one response of a type that was sent and not answered yet.
type flight struct {
	typ     Type
	nonce   string
	items   []*version // by slot, except in SotW
	removed []*slot
	offered bitset // slots: sent before they were asked for
	stale   bitset // slots: repeated in SotW for completeness, and not because they changed
	size    int
	sent    time.Time
}

func (f *flight) empty() bool { return len(f.items) == 0 && len(f.removed) == 0 }

// busy says that the proxy has not yet confirmed all there is.
func (s *subscription) busy() bool {
	return s != nil && (s.flight != nil || s.pending())
}

// confirmed says that the proxy has all there is: by its answers, or because it came with all, so that nothing was sent.
func (s *subscription) confirmed() bool {
	return (s.settled || s.nonce == "") && !s.busy()
}

// pending says that there is something to send.
func (s *subscription) pending() bool {
	return s.owed || len(s.suspects) > 0 || !s.dirty.empty()
}

// topmost is the entry that the stream sees under a name.
func (c *client) topmost(sl *slot) *entry {
	for _, l := range c.stack {
		for _, e := range sl.entries {
			if e.layer == l {
				return e
			}
		}
	}
	return nil
}

// lookup says what the stream is to have under a name. A name that exists with no version is withheld: the proxy
// refused all there is and keeps what it has.
func (c *client) lookup(t Type, sl *slot) (v *version, exists bool) {
	e := c.topmost(sl)
	if e == nil || e.wanted.onRequest && !c.subs[t].named.has(sl.id) {
		return nil, false
	}
	return e.servedTo(c.proxy), true
}
