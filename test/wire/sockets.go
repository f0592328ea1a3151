package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Stall lets new connections hang until the test ends: nobody accepts them, and the kernel's queue of those that wait
// to be accepted is full, so that it drops the first packet of any other, as a network does that leads nowhere.
func (a *App) Stall() {
	a.t.Helper()
	a.Refuse()
	fd, err := listenWithoutQueue(netip.MustParseAddrPort(a.addr))
	if err != nil {
		a.t.Fatalf("app %s: listen without a queue: %v", a.Pod, err)
	}
	a.t.Cleanup(func() { _ = syscall.Close(fd) })
	for {
		c, err := net.DialTimeout("tcp", a.addr, 200*time.Millisecond)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return
		}
		if err != nil {
			a.t.Fatalf("app %s: fill the queue of connections: %v", a.Pod, err)
		}
		a.t.Cleanup(func() { _ = c.Close() })
	}
}

func listenWithoutQueue(at netip.AddrPort) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}),
		syscall.Listen(fd, 0))
	if err != nil {
		return 0, errors.Join(err, syscall.Close(fd))
	}
	return fd, nil
}

// KeepaliveTimers are those of the connections to a pod's port, from whoever calls it: how long until a connection is
// probed if nothing moves on it, 0 where it never is. The kernel lists them in /proc/net/tcp, see proc(5).
func (m *Mesh) KeepaliveTimers(pod string, port int) []time.Duration {
	m.t.Helper()
	i := slices.IndexFunc(m.manifests.pods, func(p corev1.Pod) bool { return p.Name == pod })
	if i < 0 {
		m.t.Fatalf("the example has no pod %s", pod)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		m.t.Fatal(err)
	}
	ip := netip.MustParseAddr(m.manifests.pods[i].Status.PodIP).As4()
	remote := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], port)
	var all []time.Duration
	for line := range strings.Lines(string(table)) {
		const established, keepalive = "01", "02"
		f := strings.Fields(line) // slot, local and remote address, state, queues, timer:time left ...
		if len(f) < 6 || f[2] != remote || f[3] != established {
			continue
		}
		timer, left, _ := strings.Cut(f[5], ":")
		ticks, err := strconv.ParseInt(left, 16, 64)
		if err != nil {
			m.t.Fatalf("/proc/net/tcp says %q: %v", line, err)
		}
		if timer != keepalive {
			ticks = 0
		}
		all = append(all, time.Duration(ticks)*(time.Second/100))
	}
	return all
}
