//go:build e2e

package redirect

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/pods"
)

// probesOfSafe are of a pod that takes no plain text, so that the kubelet itself would be refused.
const probesOfSafe = `{
	"app/liveness": {"httpGet": {"path": "/", "port": 8080}},
	"app/readiness": {"httpGet": {"path": "/broken", "port": 8080}},
	"local/liveness": {"tcpSocket": {"port": 8082}},
	"pod/liveness": {"tcpSocket": {"port": 8081}},
	"app/postStart": {"httpGet": {"path": "/", "port": 8080}},
	"app/preStop": {"httpGet": {"path": "/broken", "port": 8080}},
	"pod/preStop": {"httpGet": {"path": "/", "port": 8081}},
	"local/preStop": {"httpGet": {"path": "/", "port": 8082}}
}`

// openTown starts all, and waits until all is ready.
func openTown(t *testing.T) *town {
	t.Helper()
	w := newTown(t)
	w.startPlane(t, nil)
	w.web.serveHTTP(t, ":8080")
	w.plain.serveHTTP(t, ":8080")
	w.plain.serveUDP(t, at(w.plain.IPv4, "53"))
	w.api.serveHTTP(t, ":8080")
	w.api.serveHTTP(t, at(w.api.IPv4, "8081"))
	w.api.serveHTTP(t, "127.0.0.1:8082")
	w.api.serveHTTP(t, "[::]:8083")
	w.api.serveTCP(t, ":3306")
	w.api.serveTCP(t, ":7000") // that nobody declared
	w.api.serveHTTP(t, ":9100")
	w.safe.serveHTTP(t, ":8080")
	w.safe.serveHTTP(t, at(w.safe.IPv4, "8081"))
	w.safe.serveHTTP(t, "127.0.0.1:8082")
	w.safe.serveTCP(t, ":3306")
	w.safe.serveTCP(t, ":7000")
	w.initialise(t, w.web)
	w.initialise(t, w.api, "--skip-inbound-ports=9100")
	w.initialise(t, w.safe)
	w.startSidecar(t, w.web, w.join(t, w.web), "")
	w.startSidecar(t, w.api, w.join(t, w.api), "")
	w.startSidecar(t, w.safe, w.join(t, w.safe), probesOfSafe)
	for _, p := range []*pod{w.web, w.api, w.safe} {
		w.awaitReady(t, p)
	}
	return w
}

// call calls until it is answered as wanted: what a sidecar knows when it is ready may grow for a moment.
func (w *town) call(t *testing.T, from *pod, url string, want int) seen {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		status, body, err := get(ctx, *from.Place, url)
		if err == nil && status == want {
			if want != http.StatusOK {
				return seen{}
			}
			return read(t, body)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s calls %s: %d %s %v, want %d", from.name, url, status, body, err, want)
		}
		pause(ctx)
	}
}

func TestRedirectedPods(t *testing.T) {
	w := openTown(t)
	part := func(name string, f func(t *testing.T)) { t.Run(strings.ReplaceAll(name, " ", "_"), f) }

	part("a call of a Service is mutual TLS on the wire and names its caller", w.callsAreMutualTLS)
	part("IPv6 is captured as IPv4 is", w.callsByIPv6)
	part("an application is reached at the addresses where it listens and nowhere else", w.appsAreWhereTheyListen)
	part("an application that calls its own Service arrives at itself by mutual TLS", w.hairpin)
	part("pods without a sidecar are called and call in plain text", w.plainText)
	part("a strict pod refuses plain text on every port", w.strictRefuses)
	part("a server that speaks first is heard at once", w.serverFirst)
	part("a caller that is late with its first bytes is taken for what it is", w.lateCallers)
	part("what is in the pod stays in the pod", w.insideThePod)
	part("UDP is not touched", w.udp)
	part("Envoy's own ports are refused to everybody", w.ownPorts)
	part("the kubelet's probes are performed as without the mesh", w.probes)
	part("the kubelet's hooks are, too", w.hooks)
	part("a health check of a strict pod's application passes its own sidecar", w.healthCheck)
}

const idOfWeb = "spiffe://cluster.local/ns/shop/sa/web"

func (w *town) callsAreMutualTLS(t *testing.T) {
	tape := w.record(t)
	mark := "a-word-that-is-nowhere-else"
	got := w.call(t, w.web, "http://10.96.0.3/"+mark, http.StatusOK)
	if got.App != "api" || callerIn(got.Caller) != idOfWeb || got.Host != "10.96.0.3" || !strings.HasPrefix(got.Remote, "127.0.0.6:") {
		t.Errorf("the application saw %+v", got)
	}
	bytes := tape()
	if strings.Contains(bytes, mark) || !strings.Contains(bytes, "\x16\x03\x01") {
		t.Errorf("%d bytes were on the wire; the path among them: %t, a TLS handshake among them: %t",
			len(bytes), strings.Contains(bytes, mark), strings.Contains(bytes, "\x16\x03\x01"))
	}
	// The tape would have shown it.
	tape = w.record(t)
	w.call(t, w.plain, "http://"+at(w.api.IPv4, "8080")+"/"+mark, http.StatusOK)
	if !strings.Contains(tape(), mark) {
		t.Error("a call in plain text is not on the tape, so the tape shows nothing")
	}
	if got := w.call(t, w.web, "http://10.96.0.5/", http.StatusOK); got.App != "safe" || callerIn(got.Caller) != idOfWeb {
		t.Errorf("the application of the strict pod saw %+v", got)
	}
}

func (w *town) callsByIPv6(t *testing.T) {
	for url, endpoint := range map[string]string{
		"http://[fd00:96::3]/": "127.0.0.6:", // the Service's address is IPv6, its endpoint's IPv4
		"http://[fd00:96::6]/": "[::6]:",
	} {
		got := w.call(t, w.web, url, http.StatusOK)
		if got.App != "api" || callerIn(got.Caller) != idOfWeb || !strings.HasPrefix(got.Remote, endpoint) {
			t.Errorf("%s: the application saw %+v, want it called from %s", url, got, endpoint)
		}
	}
	if got := w.call(t, w.plain, "http://"+at(w.api.IPv6, "8080")+"/", http.StatusOK); got.App != "api" || !strings.HasPrefix(got.Remote, "[::6]:") {
		t.Errorf("in plain text by IPv6 the application saw %+v", got)
	}
	if status, body, err := get(t.Context(), *w.plain.Place, "http://"+at(w.safe.IPv6, "8080")+"/"); err == nil {
		t.Errorf("a strict pod answers plain text by IPv6: %d %s", status, body)
	}
}

func (w *town) appsAreWhereTheyListen(t *testing.T) {
	for port, want := range map[string]int{
		"8081": http.StatusOK,                 // at the pod's address only
		"8082": http.StatusServiceUnavailable, // at 127.0.0.1 only
		"8083": http.StatusOK,                 // at [::]
		"9100": http.StatusOK,                 // skipped
	} {
		for _, from := range []*pod{w.web, w.plain} {
			host := "10.96.0.3"
			if from == w.plain {
				host = w.api.IPv4.String()
			}
			w.call(t, from, "http://"+host+":"+port+"/", want)
		}
	}
	if got := w.call(t, w.plain, "http://"+at(w.api.IPv4, "9100")+"/", http.StatusOK); !strings.HasPrefix(got.Remote, w.plain.IPv4.String()) {
		t.Errorf("a port that is skipped was called from %s", got.Remote)
	}
	// To the pod's address, and no Service's: in plain text, to a port that nobody declared.
	for _, from := range []*pod{w.web, w.plain} {
		if err := speaksFirst(t.Context(), *from.Place, at(w.api.IPv4, "7000")); err != nil {
			t.Errorf("from %s to an undeclared port: %v", from.name, err)
		}
	}
}

func (w *town) hairpin(t *testing.T) {
	for _, url := range []string{"http://10.96.0.2/", "http://[fd00:96::2]/"} {
		if got := w.call(t, w.web, url, http.StatusOK); got.App != "web" || callerIn(got.Caller) != idOfWeb {
			t.Errorf("%s: the application saw %+v", url, got)
		}
	}
}

func (w *town) plainText(t *testing.T) {
	if got := w.call(t, w.web, "http://10.96.0.4/", http.StatusOK); got.App != "plain" || got.Caller != "" || !strings.HasPrefix(got.Remote, w.web.IPv4.String()+":") {
		t.Errorf("called by its Service, a pod without a sidecar saw %+v", got)
	}
	if got := w.call(t, w.web, "http://"+at(w.plain.IPv4, "8080")+"/", http.StatusOK); got.App != "plain" {
		t.Errorf("called by its address, a pod without a sidecar saw %+v", got)
	}
	if got := w.call(t, w.plain, "http://"+at(w.api.IPv4, "8080")+"/", http.StatusOK); got.App != "api" || got.Caller != "" {
		t.Errorf("called from a pod without a sidecar, the application saw %+v", got)
	}
}

func (w *town) strictRefuses(t *testing.T) {
	var all sync.WaitGroup                        // who says nothing is waited for
	for _, from := range []*pod{w.plain, w.web} { // by the pod's address a sidecar sends plain text
		for _, port := range []string{"8080", "8081", "7777"} {
			all.Go(func() {
				if status, body, err := get(t.Context(), *from.Place, "http://"+at(w.safe.IPv4, port)+"/"); err == nil {
					t.Errorf("from %s to port %s: %d %s", from.name, port, status, body)
				}
			})
		}
		for _, port := range []string{"3306", "7000"} {
			all.Go(func() {
				if err := speaksFirst(t.Context(), *from.Place, at(w.safe.IPv4, port)); err == nil {
					t.Errorf("from %s to port %s: the server is heard", from.name, port)
				}
			})
		}
	}
	all.Wait()
}

func (w *town) serverFirst(t *testing.T) {
	for _, to := range []string{"10.96.0.3:3306", "[fd00:96::3]:3306", "10.96.0.5:3306"} {
		if err := speaksFirst(t.Context(), *w.web.Place, to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// speaksFirst says what is wrong with a server that speaks first and then repeats what it hears.
func speaksFirst(ctx context.Context, from pods.Place, to string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if got, err := r.ReadString('\n'); got != banner {
		return fmt.Errorf("it says %q, %w", got, err)
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	if got, err := r.ReadString('\n'); got != "hello\n" {
		return fmt.Errorf("it repeats %q, %w", got, err)
	}
	return nil
}

// lateCallers say nothing for longer than a sidecar looks for TLS, as one that is short of CPU does.
func (w *town) lateCallers(t *testing.T) {
	for address, source := range map[netip.Addr]string{w.api.IPv4: "127.0.0.6:", w.api.IPv6: "[::6]:"} {
		t.Run(address.String(), func(t *testing.T) {
			t.Run("in_the_mesh", func(t *testing.T) {
				c := tls.Client(w.silent(t, at(address, "8080")), &tls.Config{
					MinVersion: tls.VersionTLS13, NextProtos: []string{"heddle-http"},
					InsecureSkipVerify: true, // it is looked at below
				})
				if err := c.HandshakeContext(t.Context()); err != nil {
					t.Fatalf("its handshake: %v", err)
				}
				if ids := c.ConnectionState().PeerCertificates[0].URIs; len(ids) != 1 || ids[0].String() != "spiffe://cluster.local/ns/shop/sa/api" {
					t.Errorf("it meets %v", ids)
				}
			})
			t.Run("in_plain_text", func(t *testing.T) {
				c := w.silent(t, at(address, "8080"))
				request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at(address, "8080")+"/", nil))
				request.Close = true // the answer arrives whole although the server's side ends the connection
				if err := request.Write(c); err != nil {
					t.Fatal(err)
				}
				response, err := http.ReadResponse(bufio.NewReader(c), request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if err != nil || response.StatusCode != http.StatusOK {
					t.Fatalf("it is answered %s %q %v", response.Status, body, err)
				}
				if got := read(t, string(body)); got.App != "api" || got.Caller != "" || !strings.HasPrefix(got.Remote, source) {
					t.Errorf("the application saw %+v", got)
				}
			})
		})
	}
}

// detection is how long a sidecar looks for TLS where nobody says otherwise.
const detection = 100 * time.Millisecond

// silent is a connection from a pod without a sidecar on which neither side has said anything for a while.
func (w *town) silent(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := w.plain.Dial(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * detection)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a server that was told nothing sends %d bytes, %v", n, err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *town) insideThePod(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]", w.web.IPv4.String(), "[" + w.web.IPv6.String() + "]"} {
		got := w.call(t, w.web, "http://"+host+":8080/", http.StatusOK)
		if got.App != "web" || got.Caller != "" || !strings.HasPrefix(got.Remote, host+":") {
			t.Errorf("at %s the application saw %+v, want a call from the same address", host, got)
		}
	}
}

func (w *town) udp(t *testing.T) {
	c, err := w.web.Dial(t.Context(), "udp", at(w.plain.IPv4, "53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "who?"); err != nil {
		t.Fatal(err)
	}
	var b [16]byte
	if n, err := c.Read(b[:]); err != nil || string(b[:n]) != "who?" {
		t.Errorf("over UDP comes back %q, %v", b[:n], err)
	}
}

func (w *town) ownPorts(t *testing.T) {
	for name, from := range map[string]pods.Place{"another pod": *w.plain.Place, "a meshed pod": *w.web.Place, "the node": w.node.Place, "the pod itself": *w.api.Place} {
		for _, host := range []string{w.api.IPv4.String(), "[" + w.api.IPv6.String() + "]"} {
			for _, port := range []string{"15001", "15006"} {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				c, err := from.Dial(ctx, "tcp", host+":"+port)
				if err == nil {
					// A meshed pod's own sidecar takes the connection, and then finds nobody.
					_ = c.SetDeadline(time.Now().Add(patience))
					_, err = c.Read(make([]byte, 1))
					c.Close()
				}
				if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("from %s to %s:%s: %v, want a refusal", name, host, port, err)
				}
				cancel()
			}
		}
	}
	status, body, err := get(t.Context(), *w.plain.Place, "http://"+at(w.api.IPv4, "15021")+"/readyz")
	if !errors.Is(err, io.EOF) {
		t.Errorf("who does not know the prefix is answered by the agent: %d %s %v", status, body, err)
	}
}

func (w *town) probes(t *testing.T) {
	for path, want := range map[string]int{
		"probe/app/liveness":   http.StatusOK,
		"probe/app/readiness":  http.StatusInternalServerError,
		"probe/local/liveness": http.StatusServiceUnavailable,
		"probe/pod/liveness":   http.StatusOK,
	} {
		if status, body, err := w.status(t.Context(), w.safe, path); err != nil || status != want {
			t.Errorf("%s: %d %s %v, want %d", path, status, body, err, want)
		}
	}
}

// hooks are told as by the kubelet, which takes any answer of the application for a success, and only none for a failure.
func (w *town) hooks(t *testing.T) {
	if status, body, err := get(t.Context(), w.node.Place, "http://"+at(w.safe.IPv4, "8080")+"/"); err == nil {
		t.Errorf("the kubelet itself is answered in plain text: %d %s", status, body)
	}
	for _, path := range []string{"probe/app/postStart", "probe/app/preStop", "probe/pod/preStop"} {
		if status, body, err := w.status(t.Context(), w.safe, path); err != nil || status != http.StatusOK {
			t.Errorf("%s: %d %s %v", path, status, body, err)
		}
	}
	if status, body, err := w.status(t.Context(), w.safe, "probe/local/preStop"); !errors.Is(err, io.EOF) {
		t.Errorf("a hook that nobody hears: %d %s %v", status, body, err)
	}
}

// healthCheck waits for Envoy's check: through its own inbound side it would not get to the application.
func (w *town) healthCheck(t *testing.T) {
	select {
	case <-w.safe.checked:
	case <-time.After(patience):
		t.Error("no health check came to the application")
	}
}
