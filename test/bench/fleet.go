package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/xds"
)

// Fleet is the service that the process of the proxies offers to main.
type Fleet struct {
	groups map[string]*group

	mu     sync.Mutex
	number map[string]uint32 // of names and versions, so that a thousand proxies share them
	texts  []string
}

func newFleet() *Fleet {
	return &Fleet{groups: map[string]*group{}, number: map[string]uint32{}}
}

// group is the proxies of one server.
type group struct {
	fleet     *Fleet
	echo      bool // only confirm what comes: the floor sends nothing that would have to be followed
	proxies   []*proxy
	responses atomic.Int64
	resources atomic.Int64
	acks      atomic.Int64

	mu       sync.Mutex // guards what follows, and every proxy's state
	want     map[key]uint64
	arrivals []time.Time
	done     chan struct{} // closed when want has arrived everywhere
	ready    map[*proxy]bool
}

type key struct {
	typ  xds.Type
	name uint32
}

// Group tells the fleet to connect.
type Group struct {
	Server, Address string
	Proxies         int
	Echo            bool
	CA              *identity.Material // makes their certificates; nil: no TLS
}

// Totals are what a group's proxies have sent and received so far.
type Totals struct{ Responses, Resources, Acks int }

// Connect connects a group and returns when every proxy has all it was told of.
func (f *Fleet) Connect(g Group, _ *struct{}) error {
	made := &group{fleet: f, echo: g.Echo, done: make(chan struct{}), ready: map[*proxy]bool{}}
	f.groups[g.Server] = made
	for i := range g.Proxies {
		p := &proxy{group: made, number: i, warming: map[uint32]struct{}{}, unrouted: map[uint32]struct{}{}}
		for t := range p.held {
			p.held[t] = map[uint32]uint64{}
		}
		made.proxies = append(made.proxies, p)
	}
	for _, p := range made.proxies {
		transport, err := credentialsFor(p.number, g.CA)
		if err != nil {
			return err
		}
		go func() {
			err := p.run(context.Background(), g.Address, transport)
			fmt.Fprintf(os.Stderr, "proxy %d of %s: %v\n", p.number, g.Server, err)
		}()
	}
	return made.wait()
}

// Expect says what the next change will bring; Await waits for it.
func (f *Fleet) Expect(e Expectation, _ *struct{}) error {
	g := f.groups[e.Server]
	g.mu.Lock()
	defer g.mu.Unlock()
	g.want, g.arrivals, g.done = map[key]uint64{}, nil, make(chan struct{})
	for _, p := range g.proxies {
		p.arrived = 0
	}
	for _, w := range e.Wanted {
		t, ok := xds.TypeOf(w.Type)
		if !ok {
			return fmt.Errorf("no such type: %s", w.Type)
		}
		if w.Version == "" && (t == xds.Endpoints || t == xds.Route) {
			continue // proxies give these up themselves
		}
		k := key{t, f.intern(w.Name)}
		g.want[k] = 0
		if w.Version != "" {
			g.want[k] = uint64(f.intern(w.Version)) + 1
		}
	}
	return nil
}

// Expectation is what the proxies of a server are to have next.
type Expectation struct {
	Server string
	Wanted []Wanted
}

// Await returns when every proxy of the server has what was expected, with the time at which each did.
func (f *Fleet) Await(server string, arrivals *[]time.Time) error {
	g := f.groups[server]
	if err := g.wait(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	*arrivals = g.arrivals
	return nil
}

func (g *group) wait() error {
	select {
	case <-g.done:
		return nil
	case <-time.After(2 * time.Minute):
		g.mu.Lock()
		defer g.mu.Unlock()
		return fmt.Errorf("%d proxies were ready and %d had what was expected after two minutes, of %d", len(g.ready), len(g.arrivals), len(g.proxies))
	}
}

// took notes what p has after a response.
func (g *group) took(p *proxy, r *response) {
	g.responses.Add(1)
	g.resources.Add(int64(len(r.names) + len(r.removed)))
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ready[p] && p.ready() {
		if g.ready[p] = true; len(g.ready) == len(g.proxies) {
			close(g.done)
		}
	}
	if len(g.want) == 0 || p.arrived == len(g.want) {
		return
	}
	for _, name := range append(r.removed, r.names...) {
		if version, ok := g.want[key{r.typ, name}]; ok && p.held[r.typ][name] == version {
			p.arrived++
		}
	}
	if p.arrived == len(g.want) {
		if g.arrivals = append(g.arrivals, time.Now()); len(g.arrivals) == len(g.proxies) {
			close(g.done)
		}
	}
}

// Totals counts for a group.
func (f *Fleet) Totals(server string, t *Totals) error {
	g := f.groups[server]
	*t = Totals{int(g.responses.Load()), int(g.resources.Load()), int(g.acks.Load())}
	return nil
}

// Check is a state that all proxies of a server are to have.
type Check struct{ Server, Digest string }

// Differing counts the proxies of which that is not true.
func (f *Fleet) Differing(c Check, n *int) error {
	g := f.groups[c.Server]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.proxies {
		state := map[[2]string]string{}
		for t, held := range p.held {
			for name, version := range held {
				state[[2]string{xds.Type(t).URL(), f.text(name)}] = f.text(uint32(version - 1))
			}
		}
		if digest(state) != c.Digest {
			*n++
		}
	}
	return nil
}

func (f *Fleet) intern(text string) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.number[text]
	if !ok {
		n = uint32(len(f.texts))
		f.number[text] = n
		f.texts = append(f.texts, text)
	}
	return n
}

func (f *Fleet) text(n uint32) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.texts[n]
}

// decode reads a DeltaDiscoveryResponse without its resources' content.
func (f *Fleet) decode(b []byte) (*response, error) {
	r := &response{}
	err := fields(b, func(field protowire.Number, value []byte) error {
		switch field {
		case 2:
			return f.decodeResource(r, value)
		case 4:
			t, ok := xds.TypeOf(string(value))
			if !ok {
				return fmt.Errorf("a response of unknown type %s", value)
			}
			r.typ = t
		case 5:
			r.nonce = string(value)
		case 6:
			r.removed = append(r.removed, f.intern(string(value)))
		}
		return nil
	})
	return r, err
}

func (f *Fleet) decodeResource(r *response, b []byte) error {
	return fields(b, func(field protowire.Number, value []byte) error {
		switch field {
		case 1:
			r.versions = append(r.versions, uint64(f.intern(string(value)))+1)
		case 3:
			r.names = append(r.names, f.intern(string(value)))
		}
		return nil
	})
}

// fields calls do for every field of b that holds bytes.
func fields(b []byte, do func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if b = b[n:]; kind != protowire.BytesType {
			n = protowire.ConsumeFieldValue(field, kind, b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := do(field, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
