package kubetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALongBuildTellsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			live bool
			want string
		}{
			{false, "building etcd (once, takes minutes)\netcd: compiled 32 packages of at most 100\n"},
			{true, "building etcd (once, takes minutes)\n" + strings.Repeat("\r\x1b[Ketcd: compiled N packages of at most 100", 39) + "\r\x1b[K"},
		} {
			var out bytes.Buffer
			r := newReport(&out, "etcd", 100)
			r.live = c.live
			for i := range 40 {
				fmt.Fprintf(r, "example.com/package/%d\n", i)
				time.Sleep(time.Second) // of the bubble's clock
			}
			r.close()
			got := out.String()
			if c.live {
				for i := range 41 {
					got = strings.Replace(got, fmt.Sprintf("compiled %d p", i), "compiled N p", 1)
				}
			}
			if got != c.want {
				t.Errorf("live %v: got %q\nwant %q", c.live, got, c.want)
			}
		}
	})
}

func TestABuildThatFailsSaysWhy(t *testing.T) {
	r := newReport(&bytes.Buffer{}, "etcd", 100)
	fmt.Fprint(r, "example.com/a\n# example.com/b\nb.go:1:2: unde", "fined: x\nexit sta", "tus 1")
	if got, want := r.tail(), "# example.com/b\nb.go:1:2: undefined: x\nexit status 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
