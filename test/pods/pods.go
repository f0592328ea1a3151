package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Node is a namespace with a bridge, where pods are connected to. It is a place of its own as well: who dials from it is
// outside all pods, as a kubelet is.
type Node struct {
	Place
	pods int
}

// Place is a network namespace with an address of each family.
type Place struct {
	IPv4, IPv6 netip.Addr
	ns         netns.NsHandle
}

const bridge = "heddle0"

// New makes a node without pods.
func New(t testing.TB) *Node {
	t.Helper()
	n := &Node{Place: newPlace(t, 1)}
	n.configure(t, func(h *netlink.Handle) error {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
		if err := h.LinkAdd(link); err != nil {
			return fmt.Errorf("add a bridge: %w", err)
		}
		return n.address(h, link)
	})
	return n
}

func newPlace(t testing.TB, number int) Place {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces, which takes root: run it as root on Linux, for example sudo -E make test")
	}
	p := Place{IPv4: netip.AddrFrom4([4]byte{10, 244, 0, byte(number)}), IPv6: netip.MustParseAddr("fd00:244::" + strconv.FormatInt(int64(number), 16))}
	err := onThread(func() error {
		var err error
		p.ns, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatalf("make a network namespace, which takes CAP_SYS_ADMIN and CAP_NET_ADMIN: %v", err)
	}
	t.Cleanup(func() { p.ns.Close() })
	p.configure(t, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
	return p
}

// onThread runs f on a thread that ends afterwards, with whatever namespace it was in: a goroutine that ends locked takes
// its thread with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Pod makes a pod. Its interface is eth0, and its default route leads to the node.
func (n *Node) Pod(t testing.TB) *Place {
	t.Helper()
	n.pods++
	p := newPlace(t, n.pods+1)
	n.configure(t, func(h *netlink.Handle) error {
		master, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		pair := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "pod" + strconv.Itoa(n.pods), MasterIndex: master.Attrs().Index},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(p.ns),
		}
		if err := h.LinkAdd(pair); err != nil {
			return fmt.Errorf("add a pair of interfaces: %w", err)
		}
		return h.LinkSetUp(pair)
	})
	p.configure(t, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := p.address(h, eth0); err != nil {
			return err
		}
		for _, gateway := range []netip.Addr{n.IPv4, n.IPv6} {
			if err := h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
				return fmt.Errorf("add the default route by %s: %w", gateway, err)
			}
		}
		return nil
	})
	return &p
}

// DisableIPv6 takes IPv6 away from a place, as many clusters do.
func (p *Place) DisableIPv6(t testing.TB) {
	t.Helper()
	// What is written here is of the namespace of the thread that opens it.
	if err := p.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) }); err != nil {
		t.Fatal(err)
	}
	p.IPv6 = netip.Addr{}
}

// address gives an interface the place's addresses and sets it up.
func (p Place) address(h *netlink.Handle, link netlink.Link) error {
	for _, a := range []netip.Prefix{netip.PrefixFrom(p.IPv4, 16), netip.PrefixFrom(p.IPv6, 64)} {
		// Without duplicate address detection, during which an IPv6 address cannot be used.
		if err := h.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}, Flags: unix.IFA_F_NODAD,
		}); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	return h.LinkSetUp(link)
}

func (p Place) configure(t testing.TB, f func(*netlink.Handle) error) {
	t.Helper()
	h, err := netlink.NewHandleAt(p.ns)
	if err == nil {
		defer h.Close()
		err = f(h)
	}
	if err != nil {
		t.Fatalf("set up the network of %s: %v", p.IPv4, err)
	}
}

// Do runs f in the place. What it opens, and the processes that it starts, stay there. It must not start goroutines that
// open something.
func (p Place) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(p.ns); err != nil {
			return fmt.Errorf("enter the namespace of %s: %w", p.IPv4, err)
		}
		return f()
	})
}

// Listen listens there until the test ends.
func (p Place) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var l net.Listener
	err := p.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ListenPacket is Listen for UDP.
func (p Place) ListenPacket(t testing.TB, address string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	err := p.Do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Dial connects from there to an IP address.
func (p Place) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = p.Do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Start starts a command there. The thread that does so stays until the process has ended, as the kernel wants it of who
// asks to have a child killed with it.
func (p Place) Start(cmd *exec.Cmd) (ended <-chan error, err error) {
	started, done := make(chan error), make(chan error, 1)
	go func() {
		ran := false
		err := p.Do(func() error {
			if err := cmd.Start(); err != nil {
				return err
			}
			ran = true
			started <- nil
			done <- cmd.Wait()
			return nil
		})
		if !ran {
			started <- errors.Join(err, fmt.Errorf("start %s in the namespace of %s", cmd.Path, p.IPv4))
		}
	}()
	return done, <-started
}

// DialAs is Dial by a process of another user, and from another address if source is valid.
func (p Place) DialAs(ctx context.Context, uid int, source netip.Addr, address string) (c net.Conn, err error) {
	err = p.Do(func() (err error) {
		// To the kernel a socket belongs to the file system user of the thread that opens it; see credentials(7).
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			return fmt.Errorf("act as user %d: %w", uid, err)
		}
		d := net.Dialer{}
		if source.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
		c, err = d.DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}
