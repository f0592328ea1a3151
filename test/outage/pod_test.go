package outage

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/relay"
	"github.com/heddle-mesh/heddle/test/wait"
)

// Ports of every pod, and of the Service catalog.
const (
	portHTTP = 8080
	portTCP  = 8082
)

// serviceIP is catalog's.
const serviceIP = "10.96.0.10"

// hello is what applications answer.
const hello = "hello"

// pod is a pod whose application and sidecar run.
type pod struct {
	name    string
	address netip.Addr // where its sidecar takes what comes for the pod
	capture bootstrap.Capture
	ready   func(context.Context) error
	admin   func(ctx context.Context, path string) ([]byte, error) // of its Envoy
	stop    func()                                                 // ends the sidecar, with its agent
	// requests are those that the application has answered to.
	requests atomic.Int64
}

// pod prepares a pod and runs its application.
func (g ground) pod(t *testing.T, name string, number byte) *pod {
	t.Helper()
	p := &pod{
		name: name, address: g.at(0, number),
		capture: bootstrap.Capture{Bind: loopback.Reserve(t), App: g.at(1, number)},
	}
	p.serveHTTP(t, join(p.capture.App, portHTTP))
	relay.Listen(t, join(p.capture.App, portTCP), func(c net.Conn) { // sends back what comes
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	return p
}

// wait waits until the sidecar serves.
func (p *pod) wait(t *testing.T) {
	t.Helper()
	if err := p.readyWithin(t, patience); err != nil {
		t.Fatalf("sidecar of %s: %v", p.name, err)
	}
}

func (p *pod) readyWithin(t *testing.T, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.ready(ctx)
}

// inbound is where others reach a port of the pod.
func (p *pod) inbound(port int) string { return join(p.address, port) }

// service is where the pod's application calls catalog: its sidecar binds the Service's address there.
func (p *pod) service(port int) string {
	b, s := p.capture.Bind.Addr().As4(), netip.MustParseAddr(serviceIP).As4()
	return join(netip.AddrFrom4([4]byte{b[0], b[1], s[2], s[3]}), port)
}

func join(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// serveHTTP runs an application that speaks HTTP/1.1 and HTTP/2.
func (p *pod) serveHTTP(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.requests.Add(1)
		_, _ = io.WriteString(w, hello)
	})
	mux.Handle("/chat", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
	mux.HandleFunc("/stream", repeat)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	stop := wait.Background(t, "application at "+at, func(context.Context) error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	t.Cleanup(func() {
		_ = server.Close() // says what the connections said
		stop()
	})
}

// repeat sends back what comes, while it comes.
func repeat(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	text := make([]byte, 1024)
	for {
		n, err := r.Body.Read(text)
		_, failed := w.Write(text[:n])
		if errors.Join(failed, flush.Flush()) != nil || err != nil {
			return
		}
	}
}
