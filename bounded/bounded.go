// Package bounded keeps one remote address from taking all connections of a port.
package bounded

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

// ipv6Neighborhood is in bits: one host may have all addresses with the same.
const ipv6Neighborhood = 64

// Host names who may be behind an address; ok is false for who is not bounded. Loopback is not: who is on this machine
// can do worse, and the sidecars of --manifests are.
func Host(address string) (_ netip.Prefix, ok bool) {
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

// Listener closes connections of l beyond what their address may have at once. Beyond inAll of them the next ones wait.
func Listener(l net.Listener, perAddress, inAll int) net.Listener {
	return netutil.LimitListener(&listener{Listener: l, perAddress: perAddress, open: map[netip.Prefix]int{}}, inAll)
}

type listener struct {
	net.Listener
	perAddress int

	mu   sync.Mutex
	open map[netip.Prefix]int // connections
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		h, bounded := Host(c.RemoteAddr().String())
		if !bounded {
			return c, nil
		}
		if l.take(h) {
			return &conn{Conn: c, release: sync.OnceFunc(func() { l.give(h) })}, nil
		}
		_ = c.Close() // there is nobody to tell
	}
}

func (l *listener) take(h netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[h] >= l.perAddress {
		return false
	}
	l.open[h]++
	return true
}

func (l *listener) give(h netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[h]--; l.open[h] == 0 {
		delete(l.open, h)
	}
}

type conn struct {
	net.Conn
	release func()
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
