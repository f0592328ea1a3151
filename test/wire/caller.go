package wire

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what should take a moment: an answer, or a condition to come true. It is
// only ever reached by a test that fails, or by a machine in great trouble.
const patience = time.Minute

// Caller calls Services as a pod does: through its sidecar.
type Caller struct {
	t    testing.TB
	mesh *Mesh
	pod  string
	bind netip.Prefix // where its sidecar's outbound listeners are
	from net.Addr     // source address; nil for any
	http *http.Transport
	wait time.Duration // for an answer, and for all that is said over a connection
}

func newCaller(m *Mesh, pod string, bind netip.Prefix) *Caller {
	c := &Caller{t: m.t, mesh: m, pod: pod, bind: bind, wait: patience}
	c.http = c.transport()
	return c
}

// From is the same caller with another source address.
func (c *Caller) From(a netip.Addr) *Caller {
	o := *c
	o.from = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	o.http = o.transport()
	return &o
}

// Patient is the same caller, waiting for so long. Others wait for what should take a moment.
func (c *Caller) Patient(wait time.Duration) *Caller {
	o := *c
	o.wait = wait
	return &o
}

// HTTP2 is the same caller speaking HTTP/2 without TLS.
func (c *Caller) HTTP2() *Caller {
	o := *c
	o.http = o.transport()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	o.http.Protocols = &protocols
	return &o
}

func (c *Caller) transport() *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) { return c.dial(ctx, hostport) },
		// The answers are asserted as they are.
		DisableCompression:  true,
		MaxIdleConnsPerHost: 100,
	}
	c.t.Cleanup(t.CloseIdleConnections)
	return t
}

func (c *Caller) dial(ctx context.Context, hostport string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: c.from}
	return d.DialContext(ctx, "tcp", c.mesh.resolve(c, hostport))
}

// at is where the caller reaches an address of the mesh.
func (c *Caller) at(address string) string {
	if !c.bind.IsValid() {
		return address
	}
	b, a := c.bind.Addr().As4(), netip.MustParseAddr(address).As16()
	return netip.AddrFrom4([4]byte{b[0], b[1], a[14], a[15]}).String()
}

// Dial opens a TCP connection to service:port, as "db:5432" or "db.shop:5432".
func (c *Caller) Dial(service string) *Conn {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), c.wait)
	defer cancel()
	raw, err := c.dial(ctx, service)
	if err != nil {
		c.t.Fatalf("dial %s from %s: %v", service, c.pod, err)
	}
	c.t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(c.wait)); err != nil {
		c.t.Fatal(err)
	}
	return &Conn{raw, c.t, bufio.NewReader(raw)}
}

// Conn is a TCP connection that one can read lines from.
type Conn struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Line reads a line, without its end.
func (c *Conn) Line() (string, error) {
	line, err := c.r.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// WantEcho fails the test unless what is sent comes back.
func (c *Conn) WantEcho(line string) {
	c.t.Helper()
	if !c.Echoes(line) {
		c.t.Errorf("%q did not come back", line)
	}
}

// Echoes says whether what is sent comes back.
func (c *Conn) Echoes(line string) bool {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return false
	}
	got, err := c.Line()
	return err == nil && got == line
}

// Option changes a request before it is sent.
type Option func(*http.Request)

// Header sets a header; Host sets the request's host.
func Header(name, value string) Option {
	return func(r *http.Request) {
		if strings.EqualFold(name, "host") {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

// Body sets the body.
func Body(s string) Option {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(s))
		r.ContentLength = int64(len(s))
	}
}

// Get sends a GET request.
func (c *Caller) Get(url string, options ...Option) *Response {
	c.t.Helper()
	return c.Do(http.MethodGet, url, options...)
}

// Do sends a request and reads the answer. It fails the test if there is none: a sidecar always answers.
func (c *Caller) Do(method, url string, options ...Option) *Response {
	c.t.Helper()
	got, err := c.Try(c.t.Context(), method, url, options...)
	if err != nil {
		c.t.Fatalf("%s %s from %s: %v", method, url, c.pod, err)
	}
	return got
}

// Try sends a request and reads the answer.
func (c *Caller) Try(ctx context.Context, method, url string, options ...Option) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for _, o := range options {
		o(req)
	}
	start := time.Now()
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Response{c.t, resp.StatusCode, resp.Header, body, resp.Trailer, time.Since(start)}, nil
}

// Times sends n requests, one after the other.
func (c *Caller) Times(n int, url string, options ...Option) []*Response {
	c.t.Helper()
	all := make([]*Response, n)
	for i := range all {
		all[i] = c.Get(url, options...)
	}
	return all
}

// Begin sends n requests at once and does not wait for their answers.
func (c *Caller) Begin(n int, method, url string, options ...Option) *Pending {
	p := &Pending{t: c.t, left: n, results: make(chan result, n)}
	for range n {
		go func() {
			resp, err := c.Try(c.t.Context(), method, url, options...)
			p.results <- result{resp, err}
		}()
	}
	return p
}

// Pending is requests that are under way.
type Pending struct {
	t       testing.TB
	left    int
	results chan result
}

type result struct {
	resp *Response
	err  error
}

// Next waits for the next n answers.
func (p *Pending) Next(n int) []*Response {
	p.t.Helper()
	all := make([]*Response, n)
	for i := range all {
		r := <-p.results
		if r.err != nil {
			p.t.Fatal(r.err)
		}
		all[i] = r.resp
	}
	p.left -= n
	return all
}

// All waits for all answers that are left.
func (p *Pending) All() []*Response {
	p.t.Helper()
	return p.Next(p.left)
}
