package mtls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/relay"
	"github.com/heddle-mesh/heddle/test/wait"
)

func TestAnotherAccountAtAnEndpointIsRefusedAndNothingIsSentInPlainText(t *testing.T) {
	p := newPair(t, "impostor")
	for name, port := range map[string]int{"HTTP": portHTTP, "gRPC": portGRPC, "detected": portDetect} {
		for _, h2 := range []bool{false, true} {
			if status, body, _ := get(t, "http://"+p.web.service(port)+"/", h2); status != http.StatusServiceUnavailable {
				t.Errorf("%s: status %d, body %q", name, status, body)
			}
		}
	}
	for _, port := range []int{portTCP, portLegacy} {
		c := dial(t, p.web.service(port))
		_, _ = io.WriteString(c, secret) // it may be closed already
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("port %d: heard %q", port, got)
		}
	}
	p.wantEncrypted(t)
	if p.app.connections.Load() > 0 {
		t.Error("the application was reached")
	}
	if got := p.stats(p.web, "ssl.fail_verify_san"); !strings.Contains(got, "catalog") {
		t.Errorf("the refusals were not counted: %q", got)
	}
}

func TestAnEndpointOfAnAccountThatIsNotKnownCannotBeReached(t *testing.T) {
	p := newPair(t)
	p.publishEndpoints(p.asAccount("unheard-of"))
	eventually(t, "the endpoint is refused", func() bool { return p.unreachable(t) })
	p.wantEncrypted(t)
}

// unreachable says whether a new connection to the server that speaks first ends without a word of it.
func (p *pair) unreachable(t *testing.T) bool {
	t.Helper()
	c := dial(t, p.web.service(portTCP))
	defer c.Close()
	n, err := c.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, io.EOF)
}

// asAccount is catalog's endpoints on the port for TCP with another account.
func (p *pair) asAccount(account string) *model.Endpoints {
	e := *p.state.Endpoints(catalog)
	e.Ports = slices.Clone(e.Ports)
	for i := range e.Ports {
		e.Ports[i].Endpoints = slices.Clone(e.Ports[i].Endpoints)
		for j := range e.Ports[i].Endpoints {
			e.Ports[i].Endpoints[j].Account = account
		}
	}
	return &e
}

func TestAnEndpointWithoutASidecarIsSpokenToInPlainText(t *testing.T) {
	w := newTown(t)
	known := w.fact(1, "catalog-1", "catalog")
	known.Meshed = false
	w.know(slice("catalog-a", endpoint(known)), known)
	serveApp(t, "catalog-1", func(port int) string { return address(w.at(1, 1), port) })
	web := w.open(2, w.fact(2, "web", "web"), "web")
	for _, h2 := range []bool{false, true} {
		if status, body, _ := get(t, "http://"+web.service(portHTTP)+"/", h2); status != http.StatusOK || !strings.HasSuffix(body, "caller=") {
			t.Errorf("status %d, body %q", status, body)
		}
	}
	c := dial(t, web.service(portTCP))
	wantGreeting(t, c)
	wantEcho(t, c)
}

func TestAServiceOfWhichOnlySomePodsHaveASidecarIsReachedWholly(t *testing.T) {
	p := newPair(t)
	bare := p.fact(3, "catalog-2", "catalog")
	bare.Meshed = false
	serveApp(t, "catalog-2", func(port int) string { return address(p.at(1, 3), port) })
	p.know(bare, slice("catalog-b", endpoint(bare)))
	for _, c := range []struct {
		port int
		h2   bool
	}{{portHTTP, false}, {portHTTP, true}, {portGRPC, true}, {portDetect, false}, {portDetect, true}} {
		seen := map[bool]bool{} // whether the caller was proved
		eventually(t, "both pods answer", func() bool {
			status, body, _ := get(t, "http://"+p.web.service(c.port)+"/", c.h2)
			if status != http.StatusOK {
				t.Errorf("port %d: status %d", c.port, status)
			}
			seen[strings.Contains(body, "sa/web")] = true
			return len(seen) == 2
		})
	}
	p.wantEncrypted(t)
}

// directly calls the server's sidecar past the caller's.
func (p *pair) directly(port int) string { return address(p.server.sidecar, port) }

// plainRequest is what a caller without a sidecar says.
const plainRequest = "GET / HTTP/1.1\r\nhost: catalog\r\n\r\n"

func TestAStrictPortTakesOnlyCallersThatProveWhoTheyAre(t *testing.T) {
	p := newPair(t)
	p.strict[p.server.key] = true
	p.publish()
	ports := []int{portHTTP, portGRPC, portTCP, portDetect, portLegacy}
	for _, port := range ports {
		eventually(t, "plain text is refused", func() bool { return p.refusesPlainText(t, port) })
	}
	before := p.app.connections.Load()
	for _, port := range ports {
		if !p.refusesPlainText(t, port) {
			t.Errorf("port %d takes plain text", port)
		}
		for name, config := range map[string]*tls.Config{
			"without a certificate":                      p.ca.Client(t, "", "heddle-http"),
			"of another domain":                          p.ca.Client(t, "spiffe://elsewhere/ns/shop/sa/web", "heddle-tcp"),
			"with an ID of no pod":                       p.ca.Client(t, "spiffe://cluster.local/web", "heddle-tcp"),
			"with an ALPN of no use, and no certificate": p.ca.Client(t, "", "h2"),
		} {
			c := tls.Client(dial(t, p.directly(port)), config)
			_, _ = io.WriteString(c, plainRequest) // with TLS 1.3 a server refuses after the client's part
			if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
				t.Errorf("port %d: a caller %s was answered %q", port, name, got)
			}
		}
	}
	if got := p.app.connections.Load(); got != before {
		t.Errorf("the application was reached %d times", got-before)
	}
	for _, stat := range []string{"ssl.connection_error", "ssl.fail_verify_no_cert", "ssl.fail_verify_san"} {
		if got := p.stats(p.server, stat); !strings.Contains(got, "listener.in|") {
			t.Errorf("%s was not counted: %q", stat, got)
		}
	}
	for _, port := range []int{portHTTP, portDetect} {
		if status, _, _ := get(t, "http://"+p.web.service(port)+"/", false); status != http.StatusOK {
			t.Errorf("a caller with a sidecar gets %d", status)
		}
	}
	for _, port := range []int{portTCP, portLegacy} {
		wantGreeting(t, dial(t, p.web.service(port)))
	}
}

// refusesPlainText says whether a request in plain text ends with the connection and without an answer.
func (p *pair) refusesPlainText(t *testing.T, port int) bool {
	t.Helper()
	c := dial(t, p.directly(port))
	defer c.Close()
	// An application that echoes goes on listening: that is an answer too.
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, plainRequest)
	got, err := io.ReadAll(c)
	answered := bytes.Contains(got, []byte("HTTP/1.1 ")) || bytes.Contains(got, []byte("welcome"))
	return !answered && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestAPermissivePortTakesWhatItTookBefore(t *testing.T) {
	p := newPair(t)
	for _, port := range []int{portHTTP, portGRPC, portDetect} {
		for _, h2 := range []bool{false, true} {
			if status, body, _ := get(t, "http://"+p.directly(port)+"/", h2); status != http.StatusOK || !strings.HasSuffix(body, "caller=") {
				t.Errorf("port %d: status %d, body %q", port, status, body)
			}
		}
	}
	for _, port := range []int{portTCP, portLegacy} {
		c := dial(t, p.directly(port))
		wantGreeting(t, c)
		wantEcho(t, c)
	}
}

func TestAPermissivePortPassesAnApplicationsOwnTLSOn(t *testing.T) {
	w := newTown(t)
	known := w.fact(1, "catalog-1", "catalog")
	w.know(slice("catalog-a", endpoint(known)), known)
	server := w.open(1, known, "catalog")
	relayTo(t, server)
	own := w.ca.Certificate(t, "https://vault.example.com")
	for _, port := range []int{portTCP, portDetect} {
		relay.Listen(t, address(server.capture.App, port), func(c net.Conn) {
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2", "http/1.1"}})
			defer tc.Close()
			_, _ = io.Copy(tc, tc)
		})
	}
	web := w.open(2, w.fact(2, "web", "web"), "web")
	for name, at := range map[string]func(int) string{
		"from outside": func(port int) string { return address(server.sidecar, port) }, "through both sidecars": web.service,
	} {
		for _, port := range []int{portTCP, portDetect} {
			for _, alpn := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}} {
				c := tls.Client(dial(t, at(port)), w.ca.Client(t, "", alpn...))
				if err := c.HandshakeContext(t.Context()); err != nil {
					t.Errorf("%s, port %d, ALPN %q: %v", name, port, alpn, err)
					continue
				}
				if got := c.ConnectionState().PeerCertificates[0].URIs[0].Host; got != "vault.example.com" {
					t.Errorf("%s, port %d: the certificate of %s", name, port, got)
				}
				wantEcho(t, c)
			}
		}
	}
}

// eventually asks again and again until something is so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, patience, what, ok)
}
