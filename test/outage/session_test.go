package outage

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
)

// door is where one speaks mutual TLS, and what one says there to be heard.
type door struct {
	address, alpn, say string
}

// preface is how HTTP/2 begins (RFC 9113, 3.4), with an empty SETTINGS frame.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func TestNoSessionIsResumedAndARevokedBundleRefusesWhoComesBack(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: short})
	signer := m.mesh.Load().Signer()
	doors := map[string]door{
		"a port for TCP":    {m.shop.inbound(portTCP), "heddle-tcp", "hello"},
		"a port for HTTP":   {m.shop.inbound(portHTTP), "heddle-http", preface},
		"the control plane": {m.at(2, 1).String() + ":9002", "h2", preface},
		"the signer":        {signer.Address(), "h2", preface},
	}
	cert := m.certificate(t, time.Hour) // longer than the rotation takes: it is the CA that goes
	configs := map[string]*tls.Config{}
	for name, d := range doors {
		c := caller(cert, d.alpn)
		c.ServerName, c.ClientSessionCache = "mesh", tls.NewLRUClientSessionCache(8)
		configs[name] = c
		for range 3 {
			state, err := d.knock(t, c)
			switch {
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case state.DidResume:
				t.Errorf("%s resumed a session", name)
			case state.Version != tls.VersionTLS13:
				t.Errorf("%s speaks %s", name, tls.VersionName(state.Version))
			}
		}
	}
	kept := m.client(cert) // keeps its connection
	if _, err := kept.JWT(t.Context(), []string{"test"}); err != nil {
		t.Fatal(err)
	}
	bundle, _, err := m.keeper().Bundle()
	if err != nil {
		t.Fatal(err)
	}

	old := m.signer()
	m.rotate(nil)
	m.rotated(old)
	if now, _, err := m.keeper().Bundle(); err != nil || identity.Fingerprint(now) == identity.Fingerprint(bundle) {
		t.Fatalf("the bundle is the old one (%v)", err)
	}
	for name, d := range doors {
		if state, err := d.knock(t, configs[name]); err == nil {
			t.Errorf("%s answers somebody whose CA is revoked (resumed: %t)", name, state.DidResume)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	_, err = kept.JWT(t.Context(), []string{"test"})
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Status != http.StatusUnauthorized {
		t.Errorf("over a connection of before the signer says %v", err)
	}
	t.Logf("over a connection of before: %v", err)
}

// knock connects, says something, and wants to hear something.
func (d door) knock(t *testing.T, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.WriteString(c, d.say); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = c.Read(make([]byte, 1)) // a ticket would come before it, and so does a refusal (RFC 8446, 4.6.1)
	return c.ConnectionState(), err
}
