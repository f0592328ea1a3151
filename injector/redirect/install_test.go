//go:build e2e

package redirect_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/injector/redirect"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/pods"
)

const patience = 30 * time.Second

// scene is a pod with the rules, where Envoy's two ports, the agent's and an application's say their names to whoever
// connects, and another pod where two ports do. An address of no host says nothing.
type scene struct {
	node       *pods.Node
	pod, other *pods.Place
}

const nobody4, nobody6 = "10.96.0.10", "fd00:96::10" // as a ClusterIP is: only rules can make an answer of it

func stage(t *testing.T, o redirect.Options, by redirect.Backend) scene {
	t.Helper()
	node := pods.New(t)
	s := scene{node, node.Pod(t), node.Pod(t)}
	for port, name := range map[string]string{"15001": "outbound", "15006": "inbound", "15021": "agent", "8080": "app", "9100": "app"} {
		say(t, s.pod, ":"+port, name)
	}
	for _, port := range []string{"8080", "3306", "15001"} {
		say(t, s.other, ":"+port, "other pod")
	}
	for n := range 2 { // a container that is started again
		if err := s.pod.Do(func() error {
			if got := installed(t); got != (n == 1) {
				t.Errorf("before run %d of Install, Await says %t", n, got)
			}
			got, err := redirect.Install(t.Context(), o, by)
			if err == nil && (got.Backend != by || !got.IPv6) {
				t.Errorf("installed by %+v, want %s with IPv6", got, by)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// installed says whether Await finds the rules in the network namespace that this runs in.
func installed(t *testing.T) bool {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return redirect.Await(ctx) == nil
}

// TestAPodGetsNoAddressOfAFamilyThatItMayNotHave: programs take any address but 127.0.0.1 and ::1 for a sign that they can use its
// family (AI_ADDRCONFIG of getaddrinfo(3)).
func TestAPodGetsNoAddressOfAFamilyThatItMayNotHave(t *testing.T) {
	for family, change := range map[string]func(*pods.Place){"with IPv6": func(*pods.Place) {}, "without": func(p *pods.Place) { p.DisableIPv6(t) }} {
		t.Run(family, func(t *testing.T) {
			pod := pods.New(t).Pod(t)
			change(pod)
			var all []net.Addr
			if err := pod.Do(func() (err error) {
				if _, err = redirect.Install(t.Context(), redirect.Options{}, redirect.Netlink); err != nil {
					return err
				}
				if !installed(t) {
					t.Error("Await does not find the rules")
				}
				all, err = net.InterfaceAddrs()
				return err
			}); err != nil {
				t.Fatal(err)
			}
			has := func(a netip.Addr) bool {
				return slices.ContainsFunc(all, func(n net.Addr) bool { return n.String() == netip.PrefixFrom(a, a.BitLen()).String() })
			}
			if v6 := family == "with IPv6"; has(redirect.Source6()) != v6 || has(redirect.Source4()) == v6 {
				t.Errorf("it has %v", all)
			}
		})
	}
}

func say(t *testing.T, at *pods.Place, address, name string) {
	l := at.Listen(t, address)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			c.Close()
		}
	}()
}

// reach says who answers, or that the connection is refused.
func reach(t *testing.T, from pods.Place, uid int, source netip.Addr, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := from.DialAs(ctx, uid, source, address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestConnectionsOfAPodEndWhereTheRulesSay(t *testing.T) {
	o := redirect.Options{
		SkipInboundPorts: []model.Ports{{First: 9000, Last: 9100}}, SkipOutboundPorts: []model.Ports{model.OnePort(3306)},
	}
	for _, by := range []redirect.Backend{redirect.Netlink, redirect.IPTables} {
		t.Run(string(by), func(t *testing.T) {
			s := stage(t, o, by)
			const app, envoy = 1000, redirect.User
			for _, family := range []struct {
				pod, other, nobody, loopback, node, source netip.Addr
			}{
				{s.pod.IPv4, s.other.IPv4, netip.MustParseAddr(nobody4), netip.MustParseAddr("127.0.0.1"), s.node.IPv4, redirect.Source4()},
				{s.pod.IPv6, s.other.IPv6, netip.MustParseAddr(nobody6), netip.IPv6Loopback(), s.node.IPv6, redirect.Source6()},
			} {
				from := func(what string, place pods.Place, uid int, source netip.Addr, to netip.Addr, port uint16, want string) {
					t.Helper()
					if got := reach(t, place, uid, source, netip.AddrPortFrom(to, port).String()); got != want {
						t.Errorf("%s, to %s:%d: %s answers, want %s", what, to, port, got, want)
					}
				}
				none := netip.Addr{}
				from("the application", *s.pod, app, none, family.nobody, 80, "outbound")
				from("the application", *s.pod, app, none, family.other, 8080, "outbound")
				from("root in the application's container", *s.pod, 0, none, family.other, 8080, "outbound")
				from("the application, to a port that is skipped", *s.pod, app, none, family.other, 3306, "other pod")
				from("the application, to itself", *s.pod, app, none, family.pod, 8080, "app")
				from("the application, to itself", *s.pod, app, none, family.loopback, 8080, "app")
				from("the application, to Envoy's port", *s.pod, app, none, family.loopback, 15001, "refused")
				from("the application, to Envoy's port", *s.pod, app, none, family.loopback, 15006, "refused")
				from("the application, to Envoy's port", *s.pod, app, none, family.pod, 15001, "refused")
				from("the application, to another's port of that number", *s.pod, app, none, family.other, 15001, "outbound")

				from("Envoy", *s.pod, envoy, none, family.other, 8080, "other pod")
				from("Envoy, to the application", *s.pod, envoy, family.source, family.pod, 8080, "app")
				from("Envoy, to the application", *s.pod, envoy, none, family.loopback, 8080, "app")
				if family.source.Is6() { // from the other one the kernel sends nothing
					from("Envoy, to another pod as if to the application", *s.pod, envoy, family.source, family.other, 8080, "refused")
				}
				from("Envoy, to its own pod's sidecar", *s.pod, envoy, none, family.pod, 8080, "inbound")
				from("Envoy, to its own pod's port that is skipped", *s.pod, envoy, none, family.pod, 9100, "app")

				for what, outside := range map[string]pods.Place{"another pod": *s.other, "the node": s.node.Place} {
					from(what, outside, app, none, family.pod, 8080, "inbound")
					from(what+", as user 1337 there", outside, envoy, none, family.pod, 8080, "inbound")
					from(what+", to a port where nobody listens", outside, app, none, family.pod, 7777, "inbound")
					from(what+", to a port that is skipped", outside, app, none, family.pod, 9100, "app")
					from(what+", to the agent", outside, app, none, family.pod, 15021, "agent")
					from(what+", to Envoy's port", outside, app, none, family.pod, 15001, "refused")
					from(what+", to Envoy's port", outside, app, none, family.pod, 15006, "refused")
				}
			}
		})
	}
}

func TestNetworksThatAreSkippedAreReachedDirectly(t *testing.T) {
	for _, by := range []redirect.Backend{redirect.Netlink, redirect.IPTables} {
		t.Run(string(by), func(t *testing.T) {
			// The other pod's addresses are known before it is made: they count up.
			other4, other6 := netip.MustParseAddr("10.244.0.3"), netip.MustParseAddr("fd00:244::3")
			cidrs := []netip.Prefix{netip.PrefixFrom(other4, 32), netip.PrefixFrom(other6, 128)}
			s := stage(t, redirect.Options{SkipOutboundCIDRs: cidrs, SkipInboundCIDRs: cidrs}, by)
			if s.other.IPv4 != other4 || s.other.IPv6 != other6 {
				t.Fatalf("the other pod is at %s and %s", s.other.IPv4, s.other.IPv6)
			}
			for _, c := range []struct {
				from pods.Place
				to   string
				want string
			}{
				{*s.pod, "10.244.0.3:8080", "other pod"},
				{*s.pod, "[fd00:244::3]:8080", "other pod"},
				{*s.pod, "10.244.0.4:8080", "outbound"},
				{*s.pod, "[fd00:244::4]:8080", "outbound"},
				{*s.other, "10.244.0.2:8080", "app"},
				{*s.other, "[fd00:244::2]:8080", "app"},
				{s.node.Place, "10.244.0.2:8080", "inbound"},
				{s.node.Place, "[fd00:244::2]:8080", "inbound"},
			} {
				if got := reach(t, c.from, 1000, netip.Addr{}, c.to); got != c.want {
					t.Errorf("from %s to %s: %s answers, want %s", c.from.IPv4, c.to, got, c.want)
				}
			}
		})
	}
}

func TestUDPIsNotTouched(t *testing.T) {
	s := stage(t, redirect.Options{}, redirect.Netlink)
	for _, address := range []netip.Addr{s.other.IPv4, s.other.IPv6} {
		at := netip.AddrPortFrom(address, 53).String()
		server := s.other.ListenPacket(t, at)
		go func() {
			var b [64]byte
			n, from, err := server.ReadFrom(b[:])
			if err == nil {
				_, _ = server.WriteTo(b[:n], from)
			}
		}()
		c, err := s.pod.Dial(t.Context(), "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "who?"); err != nil {
			t.Fatal(err)
		}
		var b [64]byte
		n, err := c.Read(b[:])
		if err != nil || string(b[:n]) != "who?" || c.RemoteAddr().String() != at {
			t.Errorf("over UDP %s answers %q, %v; want its own question back", at, b[:n], err)
		}
	}
}

func TestWithoutTheRightToChangeTheNetworkTheErrorNamesTheCapability(t *testing.T) {
	pod := pods.New(t).Pod(t)
	for _, by := range []redirect.Backend{redirect.Auto, redirect.Netlink, redirect.IPTables} {
		err := pod.Do(func() error {
			// Capabilities are a thread's own, and this one ends.
			if err := dropCapabilities(); err != nil {
				t.Error(err)
			}
			_, err := redirect.Install(t.Context(), redirect.Options{}, by)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s without capabilities: got %v, want an error that names CAP_NET_ADMIN", by, err)
		}
	}
}

func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capset(&header, &make([]unix.CapUserData, 2)[0])
}

func TestTheRulesAreWhatNftLists(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal("there is no nft: apt-get install nftables")
	}
	o := redirect.Options{
		SkipInboundPorts: []model.Ports{model.OnePort(9100), {First: 8000, Last: 8010}}, SkipOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
	}
	list := func(install func() error) string {
		pod := pods.New(t).Pod(t)
		if err := pod.Do(install); err != nil {
			t.Fatal(err)
		}
		var out []byte
		if err := pod.Do(func() (err error) {
			out, err = exec.Command(nft, "list", "ruleset").CombinedOutput()
			return err
		}); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	ours := list(func() error {
		_, err := redirect.Install(t.Context(), o, redirect.Netlink)
		return err
	})
	written := list(func() error {
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(redirect.Text(redirect.Rules(o)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Log(string(out))
		}
		return err
	})
	if ours != written || ours == "" {
		t.Errorf("by netlink:\n%s\nas written:\n%s", ours, written)
	}
}

func TestWithoutIptablesTheErrorSaysThatTheImageHasNone(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	pod := pods.New(t).Pod(t)
	err := pod.Do(func() error {
		_, err := redirect.Install(t.Context(), redirect.Options{}, redirect.IPTables)
		if installed(t) {
			t.Error("Await finds rules that were not installed")
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no iptables-restore on PATH: this image has no iptables") {
		t.Errorf("got %v", err)
	}
}
