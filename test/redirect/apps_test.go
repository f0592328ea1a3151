//go:build e2e

package redirect

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// banner is what a server says that speaks first.
const banner = "5.7.0-town ready\n"

// serveHTTP runs an application at an address of a pod until the test ends.
func (p *pod) serveHTTP(t *testing.T, address string) {
	t.Helper()
	l := p.Listen(t, address)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/slow":
			p.slow <- struct{}{} // it is here
			<-p.slow             // and may go on
		case "/check":
			select {
			case p.checked <- struct{}{}:
			default:
			}
		}
		_ = json.NewEncoder(w).Encode(seen{
			App: p.name, Remote: r.RemoteAddr, Host: r.Host, Caller: r.Header.Get("X-Forwarded-Client-Cert"), Protocol: r.Proto,
		})
	})}
	go func() { _ = server.Serve(l) }() // until the listener is closed
	t.Cleanup(func() { server.Close() })
}

// serveTCP runs an application that speaks first, and then repeats what it hears.
func (p *pod) serveTCP(t *testing.T, address string) {
	t.Helper()
	l := p.Listen(t, address)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, banner)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// serveUDP repeats each packet.
func (p *pod) serveUDP(t *testing.T, address string) {
	t.Helper()
	c := p.ListenPacket(t, address)
	go func() {
		var b [1500]byte
		for {
			n, from, err := c.ReadFrom(b[:])
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

func at(a netip.Addr, port string) string { return net.JoinHostPort(a.String(), port) }

// callerIn is the identity in x-forwarded-client-cert.
func callerIn(header string) string {
	_, id, _ := strings.Cut(header, "URI=")
	return id
}
