package mtls

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/relay"
)

// wantPeer wants TLS 1.3, a new session, and a peer with one ID.
func wantPeer(t *testing.T, state tls.ConnectionState, id string) {
	t.Helper()
	if state.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %s", tls.VersionName(state.Version))
	}
	if state.DidResume {
		t.Error("the session was resumed")
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id {
		t.Errorf("the peer is %v, want %s", leaf.URIs, id)
	}
}

func TestAServersSidecarProvesItsIDAndResumesNoSession(t *testing.T) {
	p := newPair(t)
	config := p.ca.Client(t, p.ca.ID("shop", "web"), "heddle-tcp")
	for range 3 {
		c := tls.Client(dial(t, p.directly(portTCP)), config)
		wantGreeting(t, c) // a ticket would come before it
		wantPeer(t, c.ConnectionState(), p.ca.ID("shop", "catalog"))
		wantEcho(t, c)
		_ = c.Close()
	}
	old := p.ca.Client(t, p.ca.ID("shop", "web"), "heddle-tcp")
	old.MaxVersion = tls.VersionTLS12
	if err := tls.Client(dial(t, p.directly(portTCP)), old).HandshakeContext(t.Context()); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestACallersSidecarProvesItsIDAndResumesNoSession(t *testing.T) {
	w := newTown(t)
	known := w.fact(1, "catalog-1", "catalog")
	w.know(slice("catalog-a", endpoint(known)), known)
	config := w.ca.Server(t, w.ca.ID("shop", "catalog"))
	var mu sync.Mutex
	var states []tls.ConnectionState
	var offers [][]string
	var names []string
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		offers, names = append(offers, hello.SupportedProtos), append(names, hello.ServerName)
		return nil, nil
	}
	for _, port := range []int{portTCP, portLegacy} {
		relay.Listen(t, address(w.at(1, 1), port), func(c net.Conn) {
			tc := tls.Server(c, config)
			defer tc.Close()
			_, _ = io.WriteString(tc, greeting) // the first byte ends the handshake, and brings the tickets
			mu.Lock()
			states = append(states, tc.ConnectionState())
			mu.Unlock()
			_, _ = io.Copy(tc, tc)
		})
	}
	web := w.open(2, w.fact(2, "web", "web"), "web")
	for _, port := range []int{portTCP, portLegacy, portTCP, portLegacy} {
		c := dial(t, web.service(port))
		wantGreeting(t, c)
		wantEcho(t, c)
		_ = c.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(states) != 4 {
		t.Fatalf("%d connections", len(states))
	}
	for i := range states {
		wantPeer(t, states[i], w.ca.ID("shop", "web"))
		if !slices.Equal(offers[i], []string{"heddle-tcp"}) || names[i] != "" {
			t.Errorf("the caller offers %q and asks for %q", offers[i], names[i])
		}
	}
}

func TestPodsChangeTheirAccountUnderLoadAndNoRequestFails(t *testing.T) {
	// Before it is ready, as a rolling update has it.
	t.Run("of which the mesh hears before it is ready", func(t *testing.T) { changeAccount(t, 1) })
	// As after a time without a control plane.
	t.Run("of which the mesh hears when it is ready", func(t *testing.T) { changeAccount(t, 0) })
}

// changeAccount replaces a pod by one of another account, which is listed that many times before it is ready.
func changeAccount(t *testing.T, before int) {
	p := newPair(t)
	load := p.load(t)

	next := p.fact(3, "catalog-2", "renamed")
	unready := endpoint(next)
	unready.Ready, unready.Serving = false, false
	for range before {
		p.know(next, slice("catalog-b", unready))
	}
	server := p.open(3, next, "renamed")
	relayTo(t, server)
	serveApp(t, "catalog-2", func(port int) string { return address(server.capture.App, port) })
	p.know(slice("catalog-b", endpoint(next)))
	load.until(t, "catalog-2")

	leaving := endpoint(p.fact(1, "catalog-1", "catalog"))
	leaving.Ready, leaving.Terminating = false, true
	p.know(slice("catalog-a", leaving))
	load.untilNot(t, "catalog-1")
	p.know(slice("catalog-a"))
	load.more(t, 50)
	load.end(t)
	if got := p.state.Outbound(mesh.View{Key: catalog}).Accounts; !slices.Equal(got, []model.Key{{Namespace: "shop", Name: "renamed"}}) {
		t.Errorf("accounts %v", got)
	}
}

// TestAnAddressThatAnotherPodHasNowIsCheckedAnew is about addresses that are used again.
func TestAnAddressThatAnotherPodHasNowIsCheckedAnew(t *testing.T) {
	p := newPair(t)
	wantGreeting(t, dial(t, p.web.service(portTCP)))
	// The mesh learns that the address belongs to a pod of another account; the old sidecar is still there.
	delete(p.pods, p.server.key)
	other := p.fact(1, "catalog-2", "renamed")
	p.know(other, slice("catalog-a", endpoint(other)))
	eventually(t, "the old pod is not accepted in the new one's place", func() bool { return p.unreachable(t) })
	eventually(t, "its identity is why", func() bool {
		if status, _, _ := get(t, "http://"+p.web.service(portHTTP)+"/", false); status != http.StatusServiceUnavailable {
			t.Fatalf("status %d", status)
		}
		return p.stats(p.web, "8080|.ssl.fail_verify_san") != ""
	})
	p.wantEncrypted(t)
}

// load is requests, one after another from each of several callers, over HTTP and TCP.
type load struct {
	mu     sync.Mutex
	seen   []string // which pod answered
	failed []string
	stop   chan struct{}
	done   sync.WaitGroup
}

func (p *pair) load(t *testing.T) *load {
	l := &load{stop: make(chan struct{})}
	for i := range 4 {
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
					l.once(t, "http://"+p.web.service(portHTTP)+"/", i%2 == 0)
				}
			}
		})
	}
	t.Cleanup(func() { l.end(t) })
	return l
}

func (l *load) once(t *testing.T, url string, h2 bool) {
	status, body, _, err := try(t, url, h2)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.failed = append(l.failed, err.Error())
	case status != http.StatusOK:
		l.failed = append(l.failed, body)
	default:
		_, name, _ := strings.Cut(body, "app=")
		name, _, _ = strings.Cut(name, " ")
		l.seen = append(l.seen, name)
	}
}

// last are the pods that answered the last n requests, nil before as many.
func (l *load) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) < n {
		return nil
	}
	return slices.Clone(l.seen[len(l.seen)-n:])
}

func (l *load) until(t *testing.T, pod string) {
	t.Helper()
	eventually(t, pod+" answers", func() bool { return slices.Contains(l.last(20), pod) })
}

func (l *load) untilNot(t *testing.T, pod string) {
	t.Helper()
	eventually(t, pod+" answers no more", func() bool {
		last := l.last(50)
		return last != nil && !slices.Contains(last, pod)
	})
}

// more waits for n more requests.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.seen) + len(l.failed)
	}
	goal := count() + n
	eventually(t, "more requests", func() bool { return count() >= goal })
}

// end stops the callers and wants no request to have failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.done.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first with %q", len(l.failed), len(l.failed)+len(l.seen), l.failed[0])
	}
}
