package mtls

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// kept is a connection that stays open between requests: it sends a GET of a target and gives the status, 0 for none.
type kept func(target string) int

// keepHTTP1 opens one with HTTP/1.1.
func (g *guarded) keepHTTP1(t *testing.T, account string) kept {
	t.Helper()
	c := g.connect(t, account, portHTTP)
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	return func(target string) int {
		t.Helper()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nhost: catalog\r\n\r\n"); err != nil {
			return 0
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return 0
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
}

// keepHTTP2 opens one with HTTP/2. Unlike a library it goes on after it was asked to go away, as an attacker would.
func (g *guarded) keepHTTP2(t *testing.T, account string) kept {
	t.Helper()
	c := g.connect(t, account, portHTTP)
	t.Cleanup(func() { c.Close() })
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder, stream := hpack.NewEncoder(&block), uint32(1)
	return func(target string) int {
		t.Helper()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		block.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "catalog"}, {Name: ":path", Value: target}} {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteTo(c); err != nil {
			return 0
		}
		defer func() { stream += 2 }()
		return statusOf(framer, stream)
	}
}

// statusOf reads until a stream has its answer or is given up.
func statusOf(framer *http2.Framer, stream uint32) int {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		if frame.Header().StreamID != stream {
			continue
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame:
			return 0
		case *http2.MetaHeadersFrame:
			status, err := strconv.Atoi(f.PseudoValue("status"))
			if err != nil {
				return 0
			}
			return status
		}
	}
}

// keepAll opens one connection for each way to call and each target, and sends a request on each.
func (g *guarded) keepAll(t *testing.T, targets []string) map[string][]kept {
	t.Helper()
	all := map[string][]kept{}
	for range targets {
		for _, account := range []string{"", "web"} {
			all["HTTP/1.1 as "+account] = append(all["HTTP/1.1 as "+account], g.keepHTTP1(t, account))
			all["HTTP/2 as "+account] = append(all["HTTP/2 as "+account], g.keepHTTP2(t, account))
		}
	}
	for how, connections := range all {
		for _, get := range connections {
			if status := get("/%2fbefore//any"); status != http.StatusOK {
				t.Fatalf("%s: without rules on paths the answer is %d", how, status)
			}
		}
	}
	g.arrived()
	return all
}

// Rules count on a connection at once; the filter chain that merges slashes and refuses escaped ones is for those that
// come later. Each target has its own connection, since an answer may be the last one there.
func TestNoSpellingOfAPathGetsPastRulesThatAreYoungerThanTheConnection(t *testing.T) {
	g := newGuarded(t)
	try := func(t *testing.T, all map[string][]kept, targets []string, may func(arrival) bool) {
		t.Helper()
		for how, connections := range all {
			for i, target := range targets {
				if status := connections[i](target); status != http.StatusForbidden {
					t.Errorf("%s: %q on a connection older than the rules is answered %d", how, target, status)
				}
				for _, a := range g.arrived() {
					if !may(a) {
						t.Errorf("%s: %q reached the application as %+v", how, target, a)
					}
				}
			}
			last := connections[len(targets):]
			if status := last[0]("/public/x%20y"); status != http.StatusOK && (how == "HTTP/1.1 as web" || how == "HTTP/2 as web") {
				t.Errorf("%s: what is not refused is answered %d", how, status)
			}
			g.arrived()
		}
	}
	denying := []string{
		"/admin", "//admin", "///admin", "/%2fadmin", "/%2Fadmin", "/%5cadmin", "/%5Cadmin", `/\admin`, "/./admin", "/items/../admin",
		"/items/..%2fadmin", "/items/..%5Cadmin", "//catalog/admin", "/%ff//admin", "/items/%2e%2e%2fadmin",
	}
	old := g.keepAll(t, append(denying, "/public/x"))
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	try(t, old, denying, func(a arrival) bool { return !denied(a) })

	// Without them the chain is the one for no rules on paths again.
	g.rule("kind: Access\nservice: catalog\nmtls: permissive\n", "", ask("GET", "/%2fx"), http.StatusOK)
	allowing := []string{"/x", "/public/..%2fadmin", "/public%2f..%2fadmin", "/public/..%5cadmin", `/public/..\admin`, "/public//x", "//public/x"}
	old = g.keepAll(t, append(allowing, "/public/x"))
	g.rule(allowances, "web", ask("GET", "/x"), http.StatusForbidden)
	try(t, old, allowing, allowed)
}
