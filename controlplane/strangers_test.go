package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/test/identities"
)

// elsewhere makes connections from addresses of loopback those of other hosts: 127.0.0.7 that of 192.0.2.7.
type elsewhere struct{ net.Listener }

type elsewhereConn struct {
	net.Conn
	from net.Addr
}

func (c elsewhereConn) RemoteAddr() net.Addr { return c.from }

func (l elsewhere) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	from := *c.RemoteAddr().(*net.TCPAddr)
	from.IP = net.IPv4(192, 0, 2, from.IP.To4()[3])
	return elsewhereConn{c, &from}, nil
}

func listenElsewhere(t *testing.T) elsewhere {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return elsewhere{l}
}

func from(host byte) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}
}

// flood opens silent connections of one stranger, and waits until the last one is closed. The others stay until leave.
func (l elsewhere) flood(t *testing.T, n int) (leave func()) {
	t.Helper()
	var last net.Conn
	var all []net.Conn
	for range n {
		c, err := from(7).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		all, last = append(all, c), c
	}
	if err := last.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil { // shorter than any handshake's
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("connection %d of one stranger was left open: %v", n, err)
	}
	return func() {
		for _, c := range all {
			_ = c.Close() // nothing was written that could be lost
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestSilentConnectionsOfOneStrangerDoNotKeepTheAPIServerOut(t *testing.T) {
	ca := identities.New(t, "cluster.local")
	own := ca.Certificate(t, ca.ID("heddle-system", "heddle"))
	l := listenElsewhere(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serveHTTPS(ctx, l, http.NotFoundHandler(), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}}, zerolog.Nop())
	}()
	leave := l.flood(t, 1001)
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		TLSClientConfig: ca.Client(t, ""), DialContext: from(8).DialContext, DisableKeepAlives: true,
	}}
	if r, err := client.Get("https://" + l.Addr().String()); err != nil {
		t.Errorf("the API server is not answered: %v", err)
	} else if err := r.Body.Close(); err != nil {
		t.Error(err)
	}
	leave()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSilentConnectionsOfOneStrangerDoNotFillTheDoor(t *testing.T) {
	d := newDoor(t)
	if err := d.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	l := listenElsewhere(t)
	d.Listener = l
	source := gated{open: make(chan struct{}), events: benchFacts(1)}
	close(source.open)
	_, end := started(t, Options{Source: source, Door: d.Door})
	leave := l.flood(t, doorPerAddress+1)
	p := benchPod(0, 0)
	dialer := tls.Dialer{NetDialer: from(8), Config: d.ca.Client(peerFor(p).workload())}
	c, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Errorf("a sidecar elsewhere is not let in: %v", err)
	} else if err := c.Close(); err != nil {
		t.Error(err)
	}
	leave()
	if err := end(); err != nil {
		t.Error(err)
	}
}

// offers gives one connection.
type offers struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (o offers) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}
func (o offers) Close() error   { close(o.closed); return nil }
func (o offers) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

func TestAHandshakeAtTheDoorHasAnEndSoon(t *testing.T) {
	config := newDoor(t).TLS
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		o := offers{make(chan net.Conn, 1), make(chan struct{})}
		o.conns <- there
		p := New(Options{Door: Door{Listener: o, TLS: config}, Log: zerolog.Nop()})
		s := p.server()
		ended := make(chan error, 1)
		go func() { ended <- s.serve(o) }()
		begun := time.Now()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a silent connection ends with %v", err)
		}
		if took := time.Since(begun); took != doorPatience {
			t.Errorf("a silent connection was open for %s; want %s", took, doorPatience)
		}
		s.grpc.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
