// Package relay stands between two parties that speak over TCP, and records every byte that passes.
//
//	tap := relay.New(t, map[string]string{"127.1.1.2:8080": "127.1.0.2:8080"}) // where it listens, and whom it dials
//	bytes.Contains(tap.Recorded(), []byte("a word that was said"))
package relay

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// Relay passes connections on and records both directions. It is safe for concurrent use.
type Relay struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

// New listens at each key until the test ends, and passes every connection on to the key's value.
func New(t testing.TB, to map[string]string) *Relay {
	t.Helper()
	r := &Relay{}
	for at, server := range to {
		Listen(t, at, func(c net.Conn) { r.pass(c, server) })
	}
	return r
}

// Write records. It never fails.
func (r *Relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Write(p)
}

// Recorded is what has passed, over all connections and in both directions.
func (r *Relay) Recorded() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.bytes.Bytes())
}

func (r *Relay) pass(from net.Conn, to string) {
	defer from.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return // as if nobody listened
	}
	defer server.Close()
	var both sync.WaitGroup
	move := func(to, from net.Conn) {
		_, _ = io.Copy(to, io.TeeReader(from, r)) // ends with either connection
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { move(server, from) })
	both.Go(func() { move(from, server) })
	both.Wait()
}

// Listen hands every connection to serve until the test ends, and closes then those that are still open.
func Listen(t testing.TB, at string, serve func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed below
			}
			open.Store(c, nil)
			running.Go(func() {
				serve(c)
				open.Delete(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		running.Wait()
	})
}
