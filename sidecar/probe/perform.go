package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// result is how a probe ended: an HTTP status for the kubelet, and the reason for people.
type result struct {
	status int
	reason string
}

func failed(format string, args ...any) result {
	return result{http.StatusServiceUnavailable, fmt.Sprintf(format, args...)}
}

// performer asks one pod.
type performer struct {
	sources Sources
	at      netip.Addr // of the pod, as the kubelet knows it
	agent   string     // User-Agent of the kubelet
}

func (p performer) perform(ctx context.Context, probe Probe) result {
	ctx, cancel := context.WithTimeout(ctx, probe.timeout())
	defer cancel()
	switch {
	case probe.HTTPGet != nil:
		return p.http(ctx, probe.HTTPGet)
	case probe.GRPC != nil:
		return p.grpc(ctx, probe.GRPC)
	}
	c, err := p.dial(ctx, "tcp", p.address(probe.TCPSocket.Port))
	if err != nil {
		return failed("%v", err)
	}
	c.Close()
	return result{http.StatusOK, "connected"}
}

func (p performer) address(port uint16) string {
	return net.JoinHostPort(p.at.String(), strconv.Itoa(int(port)))
}

// dial is as the kubelet's: a probe leaves no connection behind that lingers for long.
func (p performer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{}
	if source := p.sources.to(p.at); source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := d.DialContext(ctx, network, address)
	if t, ok := c.(*net.TCPConn); ok {
		err = errors.Join(err, t.SetLinger(1))
	}
	return c, err
}

// maxRedirects is the kubelet's.
const maxRedirects = 10

func (p performer) http(ctx context.Context, get *HTTPGet) result {
	request, err := p.request(ctx, get)
	if err != nil {
		return failed("%v", err)
	}
	transport := p.transport()
	transport.ForceAttemptHTTP2 = true
	response, err := client(transport).Do(request)
	if err != nil {
		return failed("%v", err)
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, 10<<10); err != nil && !errors.Is(err, io.EOF) {
		return failed("read the answer to %s: %v", request.URL, err)
	}
	if response.StatusCode >= 200 && response.StatusCode < 400 {
		return result{http.StatusOK, response.Status}
	}
	// The kubelet tells people the status, so it gets the application's.
	return result{response.StatusCode, fmt.Sprintf("%s answers %s", request.URL, response.Status)}
}

// hook tells a container of its begin or its end. Nobody looks at what it answers.
func (p performer) hook(ctx context.Context, get *HTTPGet) error {
	request, err := p.request(ctx, get)
	if err != nil {
		return err
	}
	c := client(p.transport())
	response, err := c.Do(request)
	if errors.Is(err, http.ErrSchemeMismatch) {
		// There were applications that relied on it, from when the kubelet did not look at the scheme of hooks.
		request = request.Clone(ctx)
		request.URL.Scheme = "http"
		request.Header.Del("Authorization")
		response, err = c.Do(request)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// The application may notice that nobody reads, and what it has done is done.
	_, _ = io.CopyN(io.Discard, response.Body, 10<<10)
	return nil
}

func (p performer) transport() *http.Transport {
	return &http.Transport{
		DialContext: p.dial, DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the kubelet does not look at it either
	}
}

func client(transport *http.Transport) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		// To another host the kubelet does not go: that it was told to is good enough.
		if next.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse
		}
		if len(via) >= maxRedirects {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}}
}

// request has the headers that the kubelet would send. An empty User-Agent or Accept is none.
func (p performer) request(ctx context.Context, get *HTTPGet) (*http.Request, error) {
	u := &url.URL{Scheme: "http", Host: p.address(get.Port), Path: get.Path}
	if get.Scheme == "HTTPS" {
		u.Scheme = "https"
	}
	if parsed, err := url.Parse(get.Path); err == nil { // else it is a path with odd characters
		u.Path, u.RawPath, u.RawQuery, u.Fragment = parsed.Path, parsed.RawPath, parsed.RawQuery, parsed.Fragment
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		r.Header.Add(h.Name, h.Value)
	}
	for name, value := range map[string]string{"User-Agent": p.agent, "Accept": "*/*"} {
		switch given, ok := r.Header[name]; {
		case !ok:
			r.Header.Set(name, value)
		case given[0] == "" && name == "Accept":
			r.Header.Del(name)
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	return r, nil
}

func (p performer) grpc(ctx context.Context, ask *GRPC) result {
	conn, err := grpc.NewClient("passthrough:///"+p.address(ask.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(p.agent),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return p.dial(ctx, "tcp", address) }),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return failed("%v", err)
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: ask.Service})
	switch {
	case err != nil:
		return failed("gRPC health of %q at %s: %v", ask.Service, p.address(ask.Port), err)
	case answer.Status != grpc_health_v1.HealthCheckResponse_SERVING:
		return failed("gRPC health of %q at %s: %s", ask.Service, p.address(ask.Port), answer.Status)
	}
	return result{http.StatusOK, answer.Status.String()}
}

// linger is the longest that a connection may take to say what it wants, and to hear the answer.
const linger = 5 * time.Second
