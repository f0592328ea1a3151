package wire

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

// Echo answers 200 with the request's facts.
func Echo(next http.Handler) http.Handler { return next }

// Answer answers every request with status.
func Answer(status int) Behaviour {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
}

// FailFirst answers the first n requests with status and echoes the others.
func FailFirst(n int, status int) Behaviour { return First(n, Answer(status)) }

// First behaves as b for the first n requests and echoes the others.
func First(n int, b Behaviour) Behaviour {
	var seen atomic.Int64
	return func(next http.Handler) http.Handler {
		special := b(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1) <= int64(n) {
				special.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Wait answers after d, unless the caller gives up before.
func Wait(d time.Duration) Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(d):
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		})
	}
}

// Gate holds requests until it is opened.
type Gate struct {
	open    chan struct{}
	waiting chan struct{}
}

// NewGate makes a closed gate.
func NewGate() *Gate { return &Gate{make(chan struct{}), make(chan struct{}, 10_000)} }

// Open lets all requests pass, those that wait and those to come. It is called once.
func (g *Gate) Open() { close(g.open) }

// Behind holds the requests of an application behind the gate.
func (g *Gate) Behind(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.waiting <- struct{}{}
		select {
		case <-g.open:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// Waited returns once n requests have arrived at the gate.
func (g *Gate) Waited(n int) {
	for range n {
		<-g.waiting
	}
}

// Reset breaks the connection in place of an answer, with a TCP RST.
func Reset(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // HTTP/2: resets the stream
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	})
}

// WebSocket echoes the messages of WebSocket connections.
func WebSocket(http.Handler) http.Handler {
	return websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }}
}

// EchoBytes sends back what it receives, for Speaks.
func EchoBytes(c net.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

// Banner speaks first, as SMTP and MySQL do, and then echoes lines.
func Banner(greeting string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, greeting+"\n")
		EchoBytes(c)
	}
}
