package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Backend is how the rules get into the kernel.
type Backend string

// The backends.
const (
	Auto     Backend = "auto"     // Netlink, or IPTables where the kernel has no nf_tables; the default
	Netlink  Backend = "nftables" // nf_tables by netlink: needs no program
	IPTables Backend = "iptables" // iptables-restore and ip6tables-restore on PATH
)

// Installed says what was done.
type Installed struct {
	Backend Backend // never Auto
	IPv6    bool    // the pod has an IPv6 address beside link-local ones, and ::6 was added for it
	Why     string  // why it was not the first choice; empty if it was
}

// Install puts the rules into the network namespace that it runs in, in place of those that it put there before. It needs
// CAP_NET_ADMIN, and says so.
func Install(ctx context.Context, o Options, by Backend) (Installed, error) {
	if err := o.Validate(); err != nil {
		return Installed{}, err
	}
	done, err := install(ctx, Rules(o), by)
	if err != nil {
		return Installed{}, explain(err)
	}
	if done.IPv6, err = hasIPv6(); err != nil {
		return Installed{}, explain(err)
	}
	source := Source4()
	if done.IPv6 {
		source = Source6()
	}
	if err := addLoopback(source); err != nil {
		return Installed{}, explain(fmt.Errorf("add %s, where Envoy calls the application from, to the loopback interface: %w", source, err))
	}
	return done, nil
}

func install(ctx context.Context, chains []Chain, by Backend) (Installed, error) {
	switch by {
	case Netlink:
		return Installed{Backend: Netlink}, replace(&nftables.Conn{}, chains)
	case IPTables:
		return Installed{Backend: IPTables}, restoreBoth(ctx, chains)
	case Auto, "":
		err := replace(&nftables.Conn{}, chains)
		if err == nil || !lacksNFTables(err) {
			return Installed{Backend: Netlink}, err
		}
		done := Installed{Backend: IPTables, Why: err.Error()}
		if fallback := restoreBoth(ctx, chains); fallback != nil {
			return done, fmt.Errorf("the node's kernel has no nf_tables with NAT for both families (%w), and iptables does not do either: %w; "+
				"load the kernel's modules nf_tables, nft_chain_nat, nft_redir, nft_ct and nft_reject_inet on the node", err, fallback)
		}
		return done, nil
	}
	return Installed{}, fmt.Errorf("backend %q: want %s, %s or %s", by, Auto, Netlink, IPTables)
}

// lacksNFTables says that the kernel refused because it does not know what it was told: the protocol, the family, or a kind
// of chain or expression. A lack of rights is none of these, and iptables would meet it as well.
func lacksNFTables(err error) bool {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain says what to do about a lack of rights.
func explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: this process lacks CAP_NET_ADMIN in its network namespace; "+
			"the init container must run as user 0 with securityContext.capabilities.add: [NET_ADMIN], "+
			"and the namespace's Pod Security level must allow that", err)
	}
	return err
}

func restoreBoth(ctx context.Context, chains []Chain) error {
	if err := restoreFamily(ctx, "iptables", chains); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/net/if_inet6"); errors.Is(err, fs.ErrNotExist) {
		return nil // the kernel has no IPv6, so nothing can get by
	}
	return restoreFamily(ctx, "ip6tables", chains)
}

func restoreFamily(ctx context.Context, program string, chains []Chain) error {
	path, err := exec.LookPath(program + "-restore")
	if err != nil {
		return fmt.Errorf("there is no %s-restore on PATH: this image has no iptables, put it into an image of your own; "+
			"docs/sidecar.md shows one", program)
	}
	var missing []jump
	for _, c := range chains {
		if j, ok := c.jump(); ok && exec.CommandContext(ctx, program, append([]string{"-w", "5", "-t", j.table, "-C"}, j.rule()...)...).Run() != nil {
			missing = append(missing, j)
		}
	}
	cmd := exec.CommandContext(ctx, path, "--noflush", "-w", "5")
	cmd.Stdin = strings.NewReader(restore(chains, program == "iptables", missing))
	if out, err := cmd.CombinedOutput(); err != nil {
		text := strings.TrimSpace(string(out))
		if strings.Contains(text, "Permission denied") || strings.Contains(text, "you must be root") {
			err = errors.Join(err, fs.ErrPermission)
		}
		if strings.Contains(text, "(legacy)") {
			text += "; iptables-legacy takes CAP_NET_RAW and a /run that can be written, and a pod's init container has neither: " +
				"have the image's iptables be iptables-nft, which takes neither"
		}
		return fmt.Errorf("install rules by %s: %w: %s", path, err, text)
	}
	return nil
}

// hasIPv6 says whether the pod has an IPv6 address that others reach. Without one, [Source6] would make an application believe
// that it could use IPv6.
func hasIPv6() (bool, error) {
	all, err := addresses()
	return slices.ContainsFunc(all, func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() }), err
}
