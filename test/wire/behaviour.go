package wire

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
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
func First(n int, b Behaviour) Behaviour { return FirstThen(n, b, Echo) }

// FirstThen behaves as b for the first n requests, and as then for the others.
func FirstThen(n int, b, then Behaviour) Behaviour {
	var seen atomic.Int64
	return func(next http.Handler) http.Handler {
		early, late := b(next), then(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1) <= int64(n) {
				early.ServeHTTP(w, r)
			} else {
				late.ServeHTTP(w, r)
			}
		})
	}
}

// Chain behaves as the first, which goes on to the second.
func Chain(first, second Behaviour) Behaviour {
	return func(next http.Handler) http.Handler { return first(second(next)) }
}

// On behaves as b for requests to path, and echoes the others.
func On(path string, b Behaviour) Behaviour {
	return choose(func(r *http.Request) bool { return r.URL.Path == path }, b)
}

// When behaves as b for requests with the header, and echoes the others.
func When(header string, b Behaviour) Behaviour {
	return choose(func(r *http.Request) bool { return r.Header.Get(header) != "" }, b)
}

func choose(special func(*http.Request) bool, b Behaviour) Behaviour {
	return func(next http.Handler) http.Handler {
		other := b(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if special(r) {
				other.ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
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

// Abandoned never answers, and closes left when the first caller has given up.
func Abandoned(left chan<- struct{}) Behaviour {
	var once sync.Once
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			once.Do(func() { close(left) })
		})
	}
}

// Stream answers n numbered lines, with a pause before each but the first.
func Stream(n int, pause time.Duration) Behaviour {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range n {
				if i > 0 {
					select {
					case <-time.After(pause):
					case <-r.Context().Done():
						return
					}
				}
				_, _ = fmt.Fprintln(w, i+1)
				_ = http.NewResponseController(w).Flush()
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

// Waited returns once n more requests have arrived at the gate, and fails the test if they do not.
func (g *Gate) Waited(t testing.TB, n int) {
	t.Helper()
	late := time.After(patience)
	for i := range n {
		select {
		case <-g.waiting:
		case <-late:
			t.Fatalf("%d of %d requests arrived at the application", i, n)
		}
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
