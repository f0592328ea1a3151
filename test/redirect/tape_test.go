//go:build e2e

package redirect

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// record keeps the bytes that pass between the pods, until the function that it gives is called.
func (w *town) record(t *testing.T) (stop func() string) {
	t.Helper()
	const all = unix.ETH_P_ALL
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, all)) // htons
	var fd int
	if err := w.node.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(network))
		return err
	}); err != nil {
		t.Fatalf("record the bridge: %v", err)
	}
	// A read must notice that it is to end.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var tape []byte
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1<<16)
		quiet := false // nothing more comes after the end
		for {
			n, err := unix.Read(fd, b)
			if err == nil {
				mu.Lock()
				tape = append(tape, b[:n]...)
				mu.Unlock()
			}
			select {
			case <-over:
				if quiet = err != nil; quiet {
					return
				}
			default:
			}
		}
	}()
	return func() string {
		close(over)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the recording does not end")
		}
		unix.Close(fd)
		mu.Lock()
		defer mu.Unlock()
		return string(tape)
	}
}
