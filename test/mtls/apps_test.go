package mtls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/net/websocket"

	"github.com/heddle-mesh/heddle/test/relay"
)

// relayTo stands between a pod's sidecar and all who call it, at the address that the mesh knows of the pod.
func relayTo(t *testing.T, p *pod) *relay.Relay {
	t.Helper()
	to := map[string]string{}
	for _, port := range []int{portHTTP, portGRPC, portTCP, portDetect, portLegacy} {
		to[address(p.address, port)] = address(p.sidecar, port)
	}
	return relay.New(t, to)
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
		relay.Listen(t, p(port), func(c net.Conn) {
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
