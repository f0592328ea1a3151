package redirect

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyAKernelThatLacksNFTablesIsAReasonForIptables(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EPROTONOSUPPORT: true, // no netlink of netfilter
		unix.EOPNOTSUPP:      true, // no nf_tables behind it, or not for this family
		unix.EAFNOSUPPORT:    true,
		unix.ENOENT:          true, // no such kind of chain or expression
		unix.EPERM:           false,
		unix.EACCES:          false,
		unix.EINVAL:          false, // a mistake of ours
		unix.ENOBUFS:         false,
	} {
		// As replace gives it: errors of several messages, joined and wrapped.
		wrapped := fmt.Errorf("install: %w", errors.Join(fmt.Errorf("receive: %w", err)))
		if got := lacksNFTables(wrapped); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}
