package mtls

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func field(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }

// request asks for a path by HTTP/2, with more fields.
func request(path string, more ...hpack.HeaderField) []hpack.HeaderField {
	return append([]hpack.HeaderField{
		field(":method", "GET"), field(":scheme", "http"), field(":authority", "catalog"), field(":path", path),
	}, more...)
}

// pseudoHeaders are requests that no HTTP library would send.
func pseudoHeaders() map[string][]hpack.HeaderField {
	return map[string][]hpack.HeaderField{
		"the path":             request("/admin"),
		"two slashes":          request("//admin"),
		"dots":                 request("/public/../admin"),
		"an absolute path":     request("http://catalog/admin"),
		"no slash":             request("admin"),
		"two paths":            request("/public/x", field(":path", "/admin")),
		"two paths turned":     request("/admin", field(":path", "/public/x")),
		"two methods":          request("/public/x", field(":method", "DELETE")),
		"a late path":          {field(":method", "GET"), field(":scheme", "http"), field(":authority", "c"), field("x-a", "b"), field(":path", "/admin")},
		"no path":              {field(":method", "GET"), field(":scheme", "http"), field(":authority", "catalog")},
		"an empty path":        request(""),
		"no method":            {field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/admin")},
		"an empty method":      {field(":method", ""), field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/admin")},
		"another host":         request("/admin", field("host", "other")),
		"capitals":             request("/public/x", field("X-HTTP-Method-Override", "DELETE")),
		"a small method":       {field(":method", "delete"), field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/x")},
		"a mixed method":       {field(":method", "Delete"), field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/x")},
		"a folded override":    request("/x", field("x_http_method_override", "DELETE")),
		"an override":          request("/public/x", field("x-http-method-override", "DELETE")),
		"two overrides":        request("/public/x", field("x-http-method-override", "GET"), field("x-http-method-override", "DELETE")),
		"a connection header":  request("/admin", field("connection", "upgrade"), field("upgrade", "websocket")),
		"an extended CONNECT":  {field(":method", "CONNECT"), field(":protocol", "websocket"), field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/admin")},
		"CONNECT with a path":  {field(":method", "CONNECT"), field(":scheme", "http"), field(":authority", "catalog"), field(":path", "/admin")},
		"CONNECT":              {field(":method", "CONNECT"), field(":authority", "catalog:80")},
		"another protocol":     request("/admin", field(":protocol", "websocket")),
		"a status":             request("/admin", field(":status", "200")),
		"a line end in a path": request("/public/x\r\nx: /admin"),
	}
}

// sendHTTP2 sends one request as an account, or in plain text. What it gives waits until the sidecar has answered it or
// given the connection up: for one that breaks the protocol that takes it a second.
func (g *guarded) sendHTTP2(t *testing.T, account string, fields []hpack.HeaderField) (await func(limit time.Duration)) {
	t.Helper()
	c := g.connect(t, account, portHTTP)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, c)
	framer.AllowIllegalWrites = true
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(out.Bytes()) // what is answered counts
	return func(limit time.Duration) {
		defer c.Close()
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		readAnswer(framer)
	}
}

// readAnswer reads until the one stream of a connection has ended, or all.
func readAnswer(framer *http2.Framer) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return
			}
		}
	}
}
