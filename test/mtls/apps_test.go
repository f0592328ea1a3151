package mtls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/websocket"
)

// relay listens at the address that the mesh knows of a pod, passes everything on to its sidecar, and records it.
type relay struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Write(p)
}

// recorded is what passed in both directions.
func (r *relay) recorded() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.bytes.Bytes())
}

// relayTo runs a relay for all ports of a pod.
func relayTo(t *testing.T, p *pod) *relay {
	t.Helper()
	r := &relay{}
	for _, port := range []int{portHTTP, portGRPC, portTCP, portDetect, portLegacy} {
		listen(t, address(p.address, port), func(c net.Conn) { r.pass(c, address(p.sidecar, port)) })
	}
	return r
}

func (r *relay) pass(from net.Conn, to string) {
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

// listen hands every connection to serve until the test ends.
func listen(t *testing.T, at string, serve func(net.Conn)) {
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

// app is the application of a pod: HTTP on some ports, a greeting and an echo on the others.
type app struct {
	name        string
	connections atomic.Int64
	requests    atomic.Int64
}

// greeting is what the application says first on its TCP port.
const greeting = "welcome to the application\n"

// serveApp runs the application of a pod at an address.
func serveApp(t *testing.T, name string, p func(port int) string) *app {
	t.Helper()
	a := &app{name: name}
	for _, port := range []int{portHTTP, portGRPC, portDetect} {
		a.serveHTTP(t, p(port))
	}
	for _, port := range []int{portTCP, portLegacy} {
		listen(t, p(port), func(c net.Conn) {
			a.connections.Add(1)
			defer c.Close()
			_, _ = io.WriteString(c, greeting)
			_, _ = io.Copy(c, c)
		})
	}
	return a
}

func (a *app) serveHTTP(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.Handle("/chat", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
	mux.HandleFunc("/", a.answer)
	server := &http.Server{Handler: mux, Protocols: &protocols, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.connections.Add(1)
		}
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// answer says what arrived, and ends like a gRPC call if it is one.
func (a *app) answer(w http.ResponseWriter, r *http.Request) {
	a.requests.Add(1)
	w.Header().Set("trailer", "grpc-status")
	fmt.Fprintf(w, "%s %s app=%s caller=%s", r.Proto, r.Header.Get("x-secret"), a.name, r.Header.Get("x-forwarded-client-cert"))
	w.Header().Set("grpc-status", "0")
}
