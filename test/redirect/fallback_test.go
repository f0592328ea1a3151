//go:build e2e

package redirect

import (
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

// TestWhereTheKernelRefusesNFTablesIptablesRedirectsAndTheLogSaysWhy: with each kind of iptables that there is, and with none.
func TestWhereTheKernelRefusesNFTablesIptablesRedirectsAndTheLogSaysWhy(t *testing.T) {
	w := newTown(t)
	w.startPlane(t, nil)
	for _, p := range []*pod{w.web, w.api} {
		p.serveHTTP(t, ":8080")
	}
	w.plain.serveHTTP(t, ":8080")

	// iptables-nft asks nf_tables as well, for other things than we do, so it is not refused.
	w.initialiseWithout(t, w.web, ourselves(), iptables(t, "nft"))
	w.initialiseWithout(t, w.api, anybody(), iptables(t, "legacy"))
	for _, p := range []*pod{w.web, w.api} {
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

	said, err := w.initWithout(w.safe, anybody(), t.TempDir())
	if err == nil {
		t.Errorf("without nf_tables and iptables init ends well: %s", said)
	}
	for _, want := range []string{
		"redirect the pod's traffic", "the node's kernel has no nf_tables with NAT for both families", unix.EPROTONOSUPPORT.Error(),
		"there is no iptables-restore on PATH: this image has no iptables, put it into an image of your own",
		"load the kernel's modules nf_tables, nft_chain_nat, nft_redir, nft_ct and nft_reject_inet on the node",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("without nf_tables and iptables init does not say %q:\n%s", want, said)
		}
	}
}

// initialiseWithout is initialise on a kernel that refuses some sockets.
func (w *town) initialiseWithout(t *testing.T, p *pod, refused refusal, path string) {
	t.Helper()
	said, err := w.initWithout(p, refused, path)
	if err != nil {
		t.Fatalf("init of %s: %v\n%s", p.name, err, said)
	}
	for _, want := range []string{"by iptables\n", "iptables was chosen because the kernel refuses the other: ", refused.answer.Error()} {
		if !strings.Contains(said, want) {
			t.Errorf("init of %s does not say %q:\n%s", p.name, want, said)
		}
	}
}

// initWithout runs heddle-sidecar init with the programs of one folder.
func (w *town) initWithout(p *pod, refused refusal, path string) (said string, err error) {
	cmd := exec.Command(w.program, "init")
	cmd.Env = []string{"PATH=" + path}
	err = p.Do(func() error {
		if err := refuse(refused); err != nil {
			return err
		}
		out, err := cmd.CombinedOutput()
		said = string(out)
		return err
	})
	return said, err
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
