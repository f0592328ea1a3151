package mtls

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/heddle-mesh/heddle/test/relay"
)

// secret is in everything that is sent.
const secret = "nobody-on-the-way-may-read-this"

// pair is a caller and a server, each with a sidecar.
type pair struct {
	*town
	web, server *pod
	relay       *relay.Relay
	app         *app
}

// newPair runs the pods web and catalog-1. The mesh knows the account catalog of the latter; it has another one's
// identity if impostor says so.
func newPair(t *testing.T, impostor ...string) *pair {
	t.Helper()
	w := newTown(t)
	known := w.fact(1, "catalog-1", "catalog")
	identity := "catalog"
	if len(impostor) > 0 {
		identity = impostor[0]
	}
	w.know(slice("catalog-a", endpoint(known)), known)
	p := &pair{town: w}
	p.server = w.open(1, known, identity)
	p.relay = relayTo(t, p.server)
	p.app = serveApp(t, "catalog-1", func(port int) string { return address(p.server.capture.App, port) })
	p.web = w.open(2, w.fact(2, "web", "web"), "web")
	return p
}

// get sends a request that holds the secret, and gives the answer's status and body.
func get(t *testing.T, url string, h2 bool) (int, string, http.Header) {
	t.Helper()
	status, body, header, err := try(t, url, h2)
	if err != nil {
		t.Fatal(err)
	}
	return status, body, header
}

func try(t *testing.T, url string, h2 bool) (int, string, http.Header, error) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	transport := &http.Transport{Protocols: &protocols, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(secret))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-secret", secret)
	request.Header.Set("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/forged/sa/forged")
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), response.Trailer, err
}

func dial(t *testing.T, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantEcho wants what is written to come back.
func wantEcho(t *testing.T, c io.ReadWriter) {
	t.Helper()
	if _, err := io.WriteString(c, secret); err != nil {
		t.Fatal(err)
	}
	want(t, c, secret)
}

// wantGreeting wants the server to speak first.
func wantGreeting(t *testing.T, c io.Reader) {
	t.Helper()
	want(t, c, greeting)
}

func want(t *testing.T, c io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("heard %q (%v), want %q", got[:n], err, text)
	}
}

func TestEveryProtocolTravelsInMutualTLSAndNothingInPlainText(t *testing.T) {
	p := newPair(t)
	want := "caller=By=" + p.ca.ID("shop", "catalog") + ";Hash="
	caller := "URI=" + p.ca.ID("shop", "web")
	for _, c := range []struct {
		name  string
		port  int
		h2    bool
		proto string
	}{
		{"HTTP/1.1", portHTTP, false, "HTTP/1.1"},
		{"HTTP/2", portHTTP, true, "HTTP/2.0"},
		{"gRPC's port", portGRPC, true, "HTTP/2.0"},
		{"HTTP/1.1 that is detected", portDetect, false, "HTTP/1.1"},
		{"HTTP/2 that is detected", portDetect, true, "HTTP/2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, trailer := get(t, "http://"+p.web.service(c.port)+"/", c.h2)
			if status != http.StatusOK || !strings.HasPrefix(body, c.proto+" "+secret) || c.h2 && trailer.Get("grpc-status") != "0" {
				t.Errorf("status %d, body %q, trailers %v", status, body, trailer)
			}
			if !strings.Contains(body, want) || !strings.HasSuffix(body, caller) || strings.Contains(body, "forged") {
				t.Errorf("the application was told %q, want the caller's verified ID alone", body)
			}
		})
	}
	t.Run("WebSocket", func(t *testing.T) {
		config, err := websocket.NewConfig("ws://catalog/chat", "http://catalog")
		if err != nil {
			t.Fatal(err)
		}
		c, err := websocket.NewClient(config, dial(t, p.web.service(portHTTP)))
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, c)
	})
	for name, port := range map[string]int{"that is declared": portTCP, "that is detected": portLegacy} {
		t.Run("a server that speaks first on a port "+name, func(t *testing.T) {
			c := dial(t, p.web.service(port))
			wantGreeting(t, c)
			wantEcho(t, c)
		})
	}
	p.wantEncrypted(t)
	if got := p.stats(p.web, "ssl.handshake"); got == "" {
		t.Error("no handshake was counted")
	}
}

// wantEncrypted says that something passed, and none of it in plain text.
func (p *pair) wantEncrypted(t *testing.T) {
	t.Helper()
	bytesSeen := p.relay.Recorded()
	if len(bytesSeen) == 0 {
		t.Error("nothing passed between the sidecars")
	}
	for _, plain := range []string{secret, "HTTP/1", "PRI * HTTP/2", "welcome", "spiffe:"} {
		if bytes.Contains(bytesSeen, []byte(plain)) {
			t.Errorf("%q passed in plain text", plain)
		}
	}
}
