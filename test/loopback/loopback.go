// Package loopback hands out networks of loopback addresses, so that tests which run at the same time, in one process
// or in several, never meet on an address. Linux answers on all of 127.0.0.0/8 without any set-up.
package loopback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
)

// A network is taken by whoever listens on this address in it: the kernel gives it back when the process ends,
// however it ends.
const (
	lockHost = "255.254"
	lockPort = "41327"
)

// Networks below first are left to the demo and to what else runs on a machine.
const first, last = 150, 250

// Reserve gives a /16 of loopback addresses until the test ends.
func Reserve(t testing.TB) netip.Prefix {
	t.Helper()
	count := last - first + 1
	start := os.Getpid() % count
	var errs error
	for i := range count {
		n := first + (start+i)%count
		lock, err := net.Listen("tcp4", fmt.Sprintf("127.%d.%s:%s", n, lockHost, lockPort))
		if err != nil {
			errs = err
			continue
		}
		t.Cleanup(func() {
			if err := lock.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("give back loopback network 127.%d: %v", n, err)
			}
		})
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(n), 0, 0}), 16)
	}
	t.Fatalf("all loopback networks from 127.%d to 127.%d are taken; the last said: %v", first, last, errs)
	return netip.Prefix{}
}

// HasIPv6 says that this machine answers on ::1.
func HasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}
