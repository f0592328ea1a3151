package live

import (
	"bufio"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// endless is a request whose answer never ends: what must not break off while the mesh around it changes.
type endless struct {
	lines  atomic.Int64
	ended  chan struct{}
	reason error
}

const endlessPath = "/endless"

// speak answers a line every 20 ms until the caller leaves.
func speak(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		fmt.Fprintln(w, "still here")
		if http.NewResponseController(w).Flush() != nil {
			return // the caller is gone
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// endless begins one, and ends it with the test.
func (w *world) endless(service netip.Addr) *endless {
	w.t.Helper()
	e := &endless{ended: make(chan struct{})}
	c := w.caller(fresh)
	url := "http://" + netip.AddrPortFrom(within(c.bind, service), servicePort).String() + endlessPath
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := c.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			e.lines.Add(1)
		}
		e.reason = lines.Err()
	}()
	w.t.Cleanup(func() { <-e.ended })
	return e
}

// wantAlive fails the test unless the answer still goes on.
func (e *endless) wantAlive(t testing.TB) {
	t.Helper()
	n := e.lines.Load()
	eventually(t, "another line of the long answer", func() bool {
		select {
		case <-e.ended:
			return true
		default:
			return e.lines.Load() > n
		}
	})
	select {
	case <-e.ended:
		t.Errorf("the long answer broke off after %d lines: %v", n, e.reason)
	default:
	}
}
