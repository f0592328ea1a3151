package service

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/identity/attest"
)

// What one remote address may take before anybody knows who it is. A node may hide its pods behind one address, and all of
// them may start at once.
const (
	maxPerAddress    = 512                   // connections at once
	addressEvery     = 50 * time.Millisecond // one request with a token
	addressBurst     = 250                   // of them at once
	ipv6Neighborhood = 64                    // bits: one host may have all addresses with the same
)

// addresses bound what strangers cost: a token must be shown to the API server before anybody knows that it is forged, and
// all sidecars share what may be asked there. Loopback is left out: who is on this machine can do worse, and the
// sidecars of --manifests are.
type addresses struct {
	requests *attest.Limits

	mu   sync.Mutex
	open map[netip.Prefix]int // connections
}

func newAddresses() *addresses {
	return &addresses{requests: attest.NewLimits(addressEvery, addressBurst), open: map[netip.Prefix]int{}}
}

// host names who may be behind an address; ok is false for who is not bounded.
func host(address string) (_ netip.Prefix, ok bool) {
	a, err := netip.ParseAddrPort(address)
	if err != nil { // no TCP: nobody from elsewhere
		return netip.Prefix{}, false
	}
	ip := a.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = ipv6Neighborhood
	}
	p, err := ip.Prefix(bits)
	return p, err == nil && !ip.IsLoopback()
}

// allow takes one request with a token from what its address has.
func (a *addresses) allow(address string, now time.Time) bool {
	h, bounded := host(address)
	return !bounded || a.requests.Allow(h.String(), now)
}

// listen closes connections beyond what their address may have.
func (a *addresses) listen(l net.Listener) net.Listener { return &boundedListener{l, a} }

type boundedListener struct {
	net.Listener
	addresses *addresses
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		h, bounded := host(c.RemoteAddr().String())
		if !bounded {
			return c, nil
		}
		if l.addresses.take(h) {
			return &countedConn{Conn: c, release: sync.OnceFunc(func() { l.addresses.give(h) })}, nil
		}
		_ = c.Close() // there is nobody to tell
	}
}

func (a *addresses) take(h netip.Prefix) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[h] >= maxPerAddress {
		return false
	}
	a.open[h]++
	return true
}

func (a *addresses) give(h netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[h]--; a.open[h] == 0 {
		delete(a.open, h)
	}
}

type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
