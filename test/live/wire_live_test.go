package live

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/relay"
)

// startRelayed gives a world in which the pods web and catalog-1 have accounts of their own, and all that reaches the
// latter passes a relay.
func startRelayed(t *testing.T) (w *world, catalog *pod, tap *relay.Relay) {
	t.Helper()
	w = startWith(t, func(w *world) *plane {
		w.Relayed, w.accounts = true, map[string]string{"web": "web", "catalog-1": "catalog"}
		for _, account := range w.accounts {
			api.Account(t, w.Namespace, account)
		}
		return w.serve()
	})
	catalog = w.pod("catalog-1")
	tap = relay.New(t, map[string]string{w.inbound(relayed(catalog.address)): w.inbound(catalog.address)})
	return w, catalog, tap
}

// inbound is where others reach the application's port at an address of a pod.
func (w *world) inbound(pod netip.Addr) string {
	return netip.AddrPortFrom(w.loopback(pod), appPort).String()
}

func TestBetweenTwoSidecarsNothingPassesInPlainTextButTheHandshake(t *testing.T) {
	w, one, tap := startRelayed(t)
	catalog := w.service("catalog")
	w.slice("catalog", ready(&pod{name: one.name, address: relayed(one.address)}))
	w.answers(catalog)
	const marker, calls = "a-word-that-only-the-two-may-know", 20
	for _, keep := range []connections{kept, fresh} {
		c := w.caller(keep)
		for range calls {
			if a := c.get(t.Context(), catalog, "/"+marker); !a.ok() || a.pod != one.name {
				t.Error(a)
			}
		}
	}
	passed := tap.Recorded()
	// A record with a handshake, whose version says nothing, and in it a ClientHello (RFC 8446, 4 and 5.1).
	if len(passed) < 6 || passed[0] != 22 || passed[5] != 1 {
		t.Errorf("what passed begins with % x, which is no ClientHello", passed[:min(6, len(passed))])
	}
	if !bytes.Contains(passed, []byte("heddle-http")) {
		t.Error("the handshake names another protocol than the mesh's for HTTP, or is not recorded")
	}
	if least := 2 * calls * len(marker); len(passed) < least {
		t.Errorf("%d bytes passed, which is less than the requests are", len(passed))
	}
	for _, plain := range []string{marker, "hello", "x-app", "HTTP/1.1", "PRI * HTTP/2.0", "spiffe://"} {
		if bytes.Contains(passed, []byte(plain)) {
			t.Errorf("%q passed in plain text", plain)
		}
	}
	t.Logf("%d bytes passed", len(passed))
}

func TestASidecarProvesItsPodsAccountOnTheWire(t *testing.T) {
	w, one, _ := startRelayed(t)
	w.service("catalog")
	w.slice("catalog", ready(one))
	own, bundle := w.identify("web")
	config := tlsconfig.MTLSClientConfig(own, bundle, tlsconfig.AuthorizeAny()) // who it is, is read below
	config.NextProtos = []string{"heddle-http"}
	var state tls.ConnectionState
	eventually(t, "the sidecar of catalog-1 answers by TLS", func() (ok bool) {
		raw, err := net.Dial("tcp", w.inbound(one.address))
		if err != nil {
			return false
		}
		defer raw.Close()
		if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, config)
		// What HTTP/2 begins with, and an answer to it: a client that is refused hears of that when it reads.
		if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			return false
		}
		_, err = io.ReadFull(c, make([]byte, 9))
		state = c.ConnectionState()
		return err == nil
	})
	if state.Version != tls.VersionTLS13 || state.DidResume {
		t.Errorf("%s, resumed: %t", tls.VersionName(state.Version), state.DidResume)
	}
	leaf := state.PeerCertificates[0]
	id, err := identity.VerifyLeaf(state.PeerCertificates, bundle, time.Now()) // as ConfigMap heddle-trust has it
	if want := w.spiffeID(w.Namespace, "catalog"); err != nil || id != want || len(leaf.URIs) != 1 || leaf.URIs[0].String() != want.String() {
		t.Errorf("the certificate is of %v (%v), want %s", leaf.URIs, err, want)
	}
	made, err := w.client.CoreV1().Pods(w.Namespace).Get(t.Context(), one.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if name, uid, err := identity.PodOf(leaf); err != nil || name != made.Name || uid != string(made.UID) {
		t.Errorf("it was issued to the pod %s with UID %q (%v), want %s with %q", name, uid, err, made.Name, made.UID)
	}
}
