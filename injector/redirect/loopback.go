package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Await returns when [Install] has been done in this network namespace, or ctx is done. Who begins to talk to others before
// may be cut off: the first packet that the kernel tracks of such a connection can be an answer, which looks as if somebody
// called the pod.
//
// It shows by [Source6] on the loopback interface, or by [Source4] in a pod without IPv6: where there is IPv6 alone that would make
// applications believe in IPv4. The one or the other comes after the rules, and stays as long as they do.
func Await(ctx context.Context) error {
	for looks := 0; ; looks++ {
		all, err := addresses()
		if err != nil || slices.Contains(all, Source6()) || slices.Contains(all, Source4()) {
			return err
		}
		pause := 10 * time.Millisecond
		if looks > 200 { // something is wrong, and takes longer than anybody waits for a pod
			pause = 500 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the pod's traffic is redirected: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// addresses are those of all interfaces.
func addresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the pod's addresses: %w", err)
	}
	var all []netip.Addr
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, p.Addr())
		}
	}
	return all, nil
}

// addLoopback adds an address to the loopback interface; it may be there. See rtnetlink(7).
func addLoopback(a netip.Addr) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.IFA_LOCAL, Data: a.AsSlice()}, {Type: unix.IFA_ADDRESS, Data: a.AsSlice()},
	})
	if err != nil {
		return err
	}
	header := []byte{unix.AF_INET6, 128, unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
	if a.Is4() {
		header = []byte{unix.AF_INET, 32, 0, unix.RT_SCOPE_HOST}
	}
	header = append(header, binaryutil.NativeEndian.PutUint32(uint32(lo.Index))...)
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.RTM_NEWADDR,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
		},
		Data: append(header, attributes...),
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
