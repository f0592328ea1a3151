package sidecar

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/wait"
)

// start runs an agent with a real Envoy and waits until requests go through.
func start(t *testing.T, s *signer) (*Agent, *realEnvoy) {
	t.Helper()
	dir := shortDir(t)
	e := newEnvoy(t, dir)
	o := options(t, s, dir)
	o.Proxy = e
	a := run(t, o)
	wait.Until(t, patience, "a request goes through", func() bool { return get(e.plain) == nil })
	return a, e
}

func get(address string) error {
	r, err := http.Get("http://" + address + "/")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && string(body) != "hello" {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return err
}

// shown gives the certificate that the mTLS listener shows to a client with the identity of the agent.
func shown(t *testing.T, a *Agent, address string) *tls.ConnectionState {
	t.Helper()
	c := a.held.TLS(a.o.ID)
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return &state
}

func TestARotationIsNoticedByNobody(t *testing.T) {
	s := newSigner(t, "web", 3*time.Second)
	a, e := start(t, s)
	s.WaitTaken()
	first := shown(t, a, e.mtls).PeerCertificates[0].SerialNumber.String()

	// Load on connections that stay, while certificates are renewed every second or two and the root is replaced.
	const clients, rate = 4, 25 * time.Millisecond
	stop := make(chan struct{})
	var load sync.WaitGroup
	var mu sync.Mutex
	requests, connections := 0, 0
	for range clients {
		load.Go(func() {
			c := http.Client{Transport: &http.Transport{}}
			tick := time.NewTicker(rate)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
					mu.Lock()
					defer mu.Unlock()
					requests++
					if !i.Reused {
						connections++
					}
				}}
				q, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "http://"+e.plain, nil)
				if err != nil {
					t.Error(err)
					return
				}
				r, err := c.Do(q)
				if err != nil {
					t.Error("a request failed:", err)
					continue
				}
				_, err = io.Copy(io.Discard, r.Body)
				if r.Body.Close(); err != nil || r.StatusCode != http.StatusOK {
					t.Errorf("a request failed: %s %v", r.Status, err)
				}
			}
		})
	}
	old := s.CA()
	next := must(identity.NewRoot(domain(), time.Now(), 0))
	s.Trust(must(identity.Merge(old.Bundle(), next.Bundle())))
	s.WaitTaken()
	s.Sign(next)
	wait.Until(t, patience, "a certificate by the new root", func() bool {
		return shown(t, a, e.mtls).PeerCertificates[0].CheckSignatureFrom(next.Certificate()) == nil
	})
	s.Trust(next.Bundle())
	s.WaitTaken()
	wait.Until(t, patience, "two more renewals", func() bool { return len(s.Asked()) >= 5 })
	close(stop)
	load.Wait()

	t.Logf("%d requests on %d connections", requests, connections)
	if connections != clients || requests < 50 {
		t.Errorf("%d connections by %d clients, %d requests", connections, clients, requests)
	}
	if got := e.stat("cluster.next.upstream_cx_total"); got > 2*clients {
		t.Errorf("Envoy made %d connections to the next hop", got)
	}
	if last := shown(t, a, e.mtls).PeerCertificates[0].SerialNumber.String(); last == first {
		t.Error("the certificate on the wire is still the first")
	}
	if refused := a.sds.Refused(); len(refused) != 0 {
		t.Errorf("Envoy refused %v", refused)
	}
	scan(t, a, e, filepath.Dir(a.o.SDS))
}
