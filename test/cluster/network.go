package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// Addresses that hold in every cluster, since each has a network namespace of its own.
const (
	nodeAddress   = "10.10.0.1"
	nodeAddress6  = "fd00:10:10::1"
	serviceRange4 = "10.96.0.0/16"
	serviceRange6 = "fd00:10:96::/112"
	apiAddress    = "10.96.0.1" // of the Service kubernetes
	dnsAddress    = "10.96.0.10"
	apiPort       = "6443"
)

// network is a cluster's network namespace and the pair of interfaces that joins it to the machine. Both ends have the
// cluster's name; the addresses are link-local, so that they mean nothing elsewhere.
type network struct {
	name string
	pair byte // N of 169.254.N.1 and .2
}

func (n network) outside() string { return fmt.Sprintf("169.254.%d.1", n.pair) }
func (n network) inside() string  { return fmt.Sprintf("169.254.%d.2", n.pair) }

// newNetwork chooses addresses that the machine does not use.
func newNetwork(name string) (network, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return network{}, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	for pair := byte(100); pair < 200; pair++ {
		n := network{name, pair}
		free := true
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && ip.Contains(net.ParseIP(n.inside())) {
				free = false
			}
		}
		if free {
			return n, nil
		}
	}
	return network{}, fmt.Errorf("all of 169.254.100.0 to 169.254.199.0 is in use on this machine")
}

func (n network) path() string { return "/run/netns/" + n.name }

// create makes the namespace. It gets no default route.
func (n network) create(ctx context.Context) error {
	const settings = `
echo 1 >/proc/sys/net/ipv4/ip_forward
if [ -d /proc/sys/net/ipv6 ]; then
  echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
  echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
fi`
	for _, command := range [][]string{
		{"ip", "netns", "add", n.name},
		n.enter("sh", "-ec", settings),
		{"ip", "link", "add", n.name, "type", "veth", "peer", "name", n.name, "netns", n.name},
		{"ip", "addr", "add", n.outside() + "/30", "dev", n.name},
		{"ip", "link", "set", n.name, "up"},
		{"ip", "-n", n.name, "link", "set", "lo", "up"},
		{"ip", "-n", n.name, "addr", "add", n.inside() + "/30", "dev", n.name},
		{"ip", "-n", n.name, "addr", "add", nodeAddress + "/32", "dev", n.name},
		{"ip", "-n", n.name, "addr", "add", nodeAddress6 + "/128", "dev", n.name, "nodad"},
		{"ip", "-n", n.name, "link", "set", n.name, "up"},
		// Services are found by the node's own processes after they have been routed somewhere: it does not matter where.
		{"ip", "-n", n.name, "route", "add", serviceRange4, "dev", n.name, "src", nodeAddress},
		{"ip", "-n", n.name, "-6", "route", "add", serviceRange6, "dev", n.name, "src", nodeAddress6},
	} {
		if err := run(ctx, command...); err != nil {
			return fmt.Errorf("make the network namespace %s: %w", n.name, err)
		}
	}
	return nil
}

// enter gives the command line that runs a program in the namespace. It is not `ip netns exec`, which mounts a fresh /sys
// over the cgroups.
func (n network) enter(command ...string) []string {
	return append([]string{"nsenter", "--net=" + n.path(), "--"}, command...)
}

// remove removes the namespace, and with its last process all interfaces in it.
func (n network) remove(ctx context.Context) error {
	if _, err := os.Stat("/sys/class/net/" + n.name); err == nil {
		if err := run(ctx, "ip", "link", "del", n.name); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.path()); err == nil {
		return run(ctx, "ip", "netns", "del", n.name)
	}
	return nil
}

// run runs a command that says nothing unless it fails.
func run(ctx context.Context, command ...string) error {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
