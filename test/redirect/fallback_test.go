//go:build e2e

package redirect

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestWhereTheKernelRefusesNFTablesIptablesRedirectsOrTheLogNamesTheRemedy: with the rights that a pod's init container has.
func TestWhereTheKernelRefusesNFTablesIptablesRedirectsOrTheLogNamesTheRemedy(t *testing.T) {
	w := newTown(t)
	w.startPlane(t, nil)
	w.plain.serveHTTP(t, ":8080")
	for _, p := range []*pod{w.web, w.api} {
		p.serveHTTP(t, ":8080")
		said, err := w.initWithout(p, ourselves(), iptables(t, "nft"))
		if err != nil {
			t.Fatalf("init of %s: %v\n%s", p.name, err, said)
		}
		says(t, said, "by iptables\n", "iptables was chosen because the kernel refuses the other: ", ourselves().answer.Error())
		w.startSidecar(t, p, w.join(t, p), "")
		w.awaitReady(t, p)
	}
	for from, url := range map[*pod]string{w.web: "http://10.96.0.3/", w.api: "http://[fd00:96::2]/"} {
		if got := w.call(t, from, url, http.StatusOK); !strings.HasSuffix(callerIn(got.Caller), "/sa/"+from.name) {
			t.Errorf("%s calls %s: the application saw %+v, want it called by mutual TLS", from.name, url, got)
		}
	}
	for _, p := range []*pod{w.web, w.api} {
		if got := w.call(t, w.plain, "http://"+at(p.IPv4, "8080")+"/", http.StatusOK); !strings.HasPrefix(got.Remote, "127.0.0.6:") {
			t.Errorf("the application of %s was called from %s, want its own sidecar", p.name, got.Remote)
		}
	}
	w.neither(t)
}

// neither wants the error to name reason and remedy where no iptables does either.
func (w *town) neither(t *testing.T) {
	for name, c := range map[string]struct {
		refused refusal
		path    string
		want    []string
	}{
		"no iptables":     {anybody(), t.TempDir(), []string{"there is no iptables-restore on PATH: this image has no iptables, put it into an image of your own"}},
		"iptables-nft":    {anybody(), iptables(t, "nft"), []string{"install rules by ", "(nf_tables)"}},
		"iptables-legacy": {ourselves(), iptables(t, "legacy"), []string{"iptables-legacy takes CAP_NET_RAW", "have the image's iptables be iptables-nft"}},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := w.initWithout(w.safe, c.refused, c.path)
			if err == nil {
				t.Errorf("init ends well: %s", said)
			}
			says(t, said, append(c.want, "redirect the pod's traffic", "the node's kernel has no nf_tables with NAT for both families",
				c.refused.answer.Error(), "load the kernel's modules nf_tables, nft_chain_nat, nft_redir, nft_ct and nft_reject_inet on the node")...)
		})
	}
}

func says(t *testing.T, said string, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(said, text) {
			t.Errorf("init does not say %q:\n%s", text, said)
		}
	}
}

// initWithout runs heddle-sidecar init on a kernel that refuses some sockets, as its container would, with the programs of one
// folder.
func (w *town) initWithout(p *pod, refused refusal, path string) (said string, err error) {
	cmd := exec.Command(w.program, "init")
	cmd.Env = []string{"PATH=" + path}
	err = p.Do(func() error {
		if err := errors.Join(refuse(refused), keepNetAdmin()); err != nil {
			return err
		}
		out, err := cmd.CombinedOutput()
		said = string(out)
		return err
	})
	return said, err
}

// keepNetAdmin takes all other capabilities from the programs that this thread starts, as injection has it done.
func keepNetAdmin() error {
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		if capability == unix.CAP_NET_ADMIN {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // an older kernel lacks some
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// iptables gives a folder with the programs of one kind, nft or legacy, and no others.
func iptables(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, verb := range []string{"", "-restore"} {
			program, err := exec.LookPath(family + "-" + kind + verb)
			if err == nil {
				err = os.Symlink(program, filepath.Join(dir, family+verb))
			}
			if err != nil {
				t.Fatalf("%v: apt-get install iptables", err)
			}
		}
	}
	return dir
}

// refusal is what the kernel answers who wants a socket of netfilter's netlink, without which nobody changes nf_tables, if the
// socket's type has one of these bits.
type refusal struct {
	bits   uint32
	answer unix.Errno
}

// anybody is refused as by a kernel without that netlink.
func anybody() refusal { return refusal{unix.SOCK_RAW, unix.EPROTONOSUPPORT} }

// ourselves spares iptables-nft, whose library opens its sockets without that bit. To the answer above ours does so too.
func ourselves() refusal { return refusal{unix.SOCK_CLOEXEC, unix.EAFNOSUPPORT} }

// refuse has the kernel refuse this thread, and the processes that it starts. There is no way back, so the thread must end.
func refuse(r refusal) error {
	const number, domain, kind, protocol = 0, 16, 24, 32 // where struct seccomp_data has them, on a machine of little endian
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(test uint16, value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: value, Jf: skip}
	}
	end := func(with uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with} }
	program := []unix.SockFilter{
		load(number), unless(unix.BPF_JEQ, unix.SYS_SOCKET, 7),
		load(domain), unless(unix.BPF_JEQ, unix.AF_NETLINK, 5),
		load(protocol), unless(unix.BPF_JEQ, unix.NETLINK_NETFILTER, 3),
		load(kind), unless(unix.BPF_JSET, r.bits, 1),
		end(unix.SECCOMP_RET_ERRNO | uint32(r.answer)),
		end(unix.SECCOMP_RET_ALLOW),
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
		return fmt.Errorf("have sockets refused, which takes root and a kernel with seccomp filters: %w", errno)
	}
	return nil
}
