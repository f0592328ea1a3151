package service

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
)

func TestASidecarJoinsRenewsAndGetsATokenOfItsOwn(t *testing.T) {
	s, tokens := forFiles(t)
	key := newKey(t)
	join := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	first, err := s.client(nil).SVID(t.Context(), join, csrOf(t, key))
	if err != nil {
		t.Fatal(err)
	}
	if got := first.Chain[0].URIs; len(got) != 1 || got[0].String() != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("issued to %v", got)
	}
	if pod, uid, err := identity.PodOf(first.Chain[0]); pod != "web-1" || uid != "" || err != nil {
		t.Errorf("for pod %q %q, %v", pod, uid, err)
	}
	if identity.Fingerprint(first.Bundle) != identity.Fingerprint(s.ca.bundle) {
		t.Error("with another bundle than the current one")
	}

	mine := s.client(shown(key, first.Chain))
	next := newKey(t)
	second, err := mine.SVID(t.Context(), "", csrOf(t, next))
	if err != nil {
		t.Fatalf("renewal: %v", err)
	}
	if second.Chain[0].SerialNumber.Cmp(first.Chain[0].SerialNumber) == 0 {
		t.Error("the renewed certificate is the same one")
	}

	token, err := mine.JWT(t.Context(), []string{"payments"})
	if err != nil {
		t.Fatal(err)
	}
	svid, err := jwtsvid.ParseAndValidate(token, s.ca.bundle, []string{"payments"})
	if err != nil || svid.ID != idOf(t, "shop", "web") {
		t.Errorf("token of %v, %v", svid, err)
	}
	if s.counted("heddle_identity_issues_total", "kind", "svid") != 2 || s.counted("heddle_identity_issues_total", "kind", "jwt") != 1 {
		t.Error("the issues were not counted")
	}
	for _, secret := range []string{join, strings.Split(join, ".")[2], token, strings.Split(token, ".")[2]} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds a token:\n%s", s.log)
		}
	}
	if !strings.Contains(s.log.String(), `"pod":"shop/web-1"`) || !strings.Contains(s.log.String(), `"serial":"`) {
		t.Errorf("the log does not say what was issued:\n%s", s.log)
	}
}

func TestACSRIsRefusedForEachThingThatItMustNotAskFor(t *testing.T) {
	s, tokens := forFiles(t)
	key := newKey(t)
	request := func(template x509.CertificateRequest) []byte {
		return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &template, key))
	}
	uris := func(texts ...string) (list []*url.URL) {
		for _, text := range texts {
			list = append(list, must[*url.URL](t)(url.Parse(text)))
		}
		return list
	}
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	broken := request(x509.CertificateRequest{})
	broken[len(broken)-1] ^= 1
	const own = "spiffe://cluster.local/ns/shop/sa/web"
	for name, c := range map[string]struct {
		csr  []byte
		want string
	}{
		"a wrong signature":    {broken, "csr-signature"},
		"RSA 1024":             {must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)), "key-type"},
		"two URIs":             {request(x509.CertificateRequest{URIs: uris(own, own+"2")}), "san"},
		"another's ID":         {request(x509.CertificateRequest{URIs: uris("spiffe://cluster.local/ns/bank/sa/web")}), "san"},
		"a DNS name":           {request(x509.CertificateRequest{DNSNames: []string{"web.shop"}}), "san"},
		"its ID and a name":    {request(x509.CertificateRequest{URIs: uris(own), DNSNames: []string{"web.shop"}}), "san"},
		"another trust domain": {request(x509.CertificateRequest{URIs: uris("spiffe://other/ns/shop/sa/web")}), "san"},
		"nothing":              {nil, "csr-syntax"},
		"PEM":                  {[]byte("-----BEGIN CERTIFICATE REQUEST-----"), "csr-syntax"},
		"5 KiB":                {make([]byte, 5<<10), "csr-size"},
		"70 KiB":               {make([]byte, 70<<10), "too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			join := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
			_, err := s.client(nil).SVID(t.Context(), join, c.csr)
			s.wantCode(err, c.want)
			if client.Retryable(err) {
				t.Error("it would be tried again as it is")
			}
		})
	}
	join := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	if _, err := s.client(nil).SVID(t.Context(), join, request(x509.CertificateRequest{URIs: uris(own)})); err != nil {
		t.Errorf("its own ID: %v", err)
	}
}

func TestACertificateOfAnotherKindOpensNothing(t *testing.T) {
	s, _ := forFiles(t)
	foreign := must[*identity.Authority](t)(identity.NewRoot(must[spiffeid.TrustDomain](t)(identity.ParseTrustDomain("other")), time.Now(), 0))
	for name, c := range map[string]struct {
		cert *tls.Certificate
		want string
	}{
		"of an unknown root":      {certificate(t, newRoot(t), idOf(t, "shop", "web"), "web-1"), "chain"},
		"of another trust domain": {certificate(t, foreign, must[spiffeid.ID](t)(identity.ID(foreign.TrustDomain(), "shop", "web")), "web-1"), "trust-domain"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.client(c.cert).Bundle(t.Context(), "", client.Uses{}); err == nil {
				t.Fatal("it was let in")
			}
			// The handshake itself fails, so the code is in the metric and in the log only.
			if s.counted("heddle_identity_refusals_total", "reason", c.want) == 0 {
				t.Errorf("refusal %s was not counted", c.want)
			}
		})
	}
	_, err := s.client(nil).Bundle(t.Context(), "", client.Uses{})
	s.wantCode(err, "no-certificate")
	_, err = s.client(certificate(t, s.ca.signing, signerID(t), "", func(r *identity.Request) { r.PodUID = "" })).JWT(t.Context(), []string{"x"})
	s.wantCode(err, "pod-missing")
}

func TestAConnectionEndsToCountWithTheRootOfItsCertificate(t *testing.T) {
	s, _ := forFiles(t)
	old := s.ca.signing
	c := s.client(s.sidecar("shop", "web", "web-1"))
	if _, err := c.Bundle(t.Context(), "", client.Uses{}); err != nil {
		t.Fatal(err)
	}
	next := newRoot(t)
	s.ca.set(next, next.Bundle()) // without the old root, and with the connection still open
	_, err := c.Bundle(t.Context(), "", client.Uses{})
	s.wantCode(err, "chain")
	s.ca.set(old, old.Bundle())
	if _, err := c.Bundle(t.Context(), "", client.Uses{}); err != nil {
		t.Errorf("with the root back: %v", err)
	}
}

func TestANewBundleReachesWhoWaitsForIt(t *testing.T) {
	s, _ := forFiles(t)
	c := s.client(s.sidecar("shop", "web", "web-1"))
	now, err := c.Bundle(t.Context(), "", client.Uses{})
	if err != nil {
		t.Fatal(err)
	}
	name := identity.Fingerprint(now)
	type answer struct {
		bundle *spiffebundle.Bundle
		err    error
	}
	came := make(chan answer)
	go func() {
		b, err := c.Bundle(t.Context(), name, client.Uses{Bundle: name})
		came <- answer{b, err}
	}()
	eventually(t, "the sidecar waits", func() bool {
		list := s.server.Sidecars().Sidecars()
		return len(list) == 1 && list[0].Taken == name && list[0].Connected
	})
	next := newRoot(t)
	both := must[*spiffebundle.Bundle](t)(identity.Merge(s.ca.bundle, next.Bundle()))
	s.ca.set(next, both)
	got := <-came
	if got.err != nil || identity.Fingerprint(got.bundle) != identity.Fingerprint(both) {
		t.Errorf("got %v, %v", got.bundle, got.err)
	}
}

func TestTheSignerShowsACertificateOfWhoSignsNow(t *testing.T) {
	s, _ := forFiles(t)
	shownBy := func() string {
		t.Helper()
		conn := must[*tls.Conn](t)(tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
		defer conn.Close()
		if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("TLS version %x", v)
		}
		id, err := identity.VerifyLeaf(conn.ConnectionState().PeerCertificates, s.ca.bundle, time.Now())
		if err != nil || id != signerID(t) {
			t.Errorf("the signer is %v, %v", id, err)
		}
		return string(conn.ConnectionState().PeerCertificates[0].AuthorityKeyId)
	}
	first := shownBy()
	next := newRoot(t)
	s.ca.set(next, must[*spiffebundle.Bundle](t)(identity.Merge(s.ca.bundle, next.Bundle())))
	if shownBy() == first {
		t.Error("it is still signed by the old authority")
	}
}

func TestOldTLSAndResumptionAreRefused(t *testing.T) {
	s, _ := forFiles(t)
	if _, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "signer"}
	for range 2 {
		conn := must[*tls.Conn](t)(tls.Dial("tcp", s.address, config))
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 1024); ; { // tickets come after the handshake
			if _, err := conn.Read(b); err != nil {
				break
			}
		}
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		conn.Close()
	}
}

func TestACAThatIsGoneIsSaidToEverybody(t *testing.T) {
	s, tokens := forFiles(t)
	c := s.client(s.sidecar("shop", "web", "web-1"))
	s.ca.fail(goneError{})
	_, err := c.Bundle(t.Context(), "", client.Uses{})
	s.wantCode(err, "ca-missing")
	_, err = s.client(nil).SVID(t.Context(), tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"}), csrOf(t, newKey(t)))
	s.wantCode(err, "ca-missing")
	if !client.Retryable(err) {
		t.Error("a sidecar would give up, and not come back when the CA is restored")
	}
}

// With several replicas the next connection may reach the one that signs.
func TestASignerThatMayNotServeKeepsNoConnection(t *testing.T) {
	s, _ := forFiles(t)
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, // who answers is no matter
			Certificates:       []tls.Certificate{*s.sidecar("shop", "web", "web-1")},
		},
	}
	defer transport.CloseIdleConnections()
	reused := func() (is bool) {
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { is = i.Reused }}
		r := must[*http.Request](t)(http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "https://"+s.address+"/v1/bundle", nil))
		answer := must[*http.Response](t)(transport.RoundTrip(r))
		defer answer.Body.Close()
		_ = must[[]byte](t)(io.ReadAll(answer.Body))
		return is
	}
	reused()
	if !reused() {
		t.Fatal("connections are never used twice, so this test shows nothing")
	}
	s.ca.fail(goneError{})
	reused()
	eventually(t, "the connection is left", func() bool { return !reused() })
}

func TestJoinTokensAreServedOnThisMachineOnly(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "0.0.0.0:0"))
	s := ForFiles(Options{ID: signerID(t), Authorities: newAuthorities(newRoot(t))}, attest.NewJoinTokens(nil, nil))
	err := s.Run(t.Context(), l)
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestAClusterDoesNotRenewByCertificateNorTakeJoinTokens(t *testing.T) {
	joins := attest.NewJoinTokens(nil, nil)
	s := run(t, func(o Options) *Server { return ForCluster(o, attest.NewReviewer(attest.ReviewerOptions{})) })
	_, err := s.client(s.sidecar("shop", "web", "web-1")).SVID(t.Context(), "", csrOf(t, newKey(t)))
	s.wantCode(err, "no-token")
	_, err = s.client(nil).SVID(t.Context(), joins.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"}), csrOf(t, newKey(t)))
	s.wantCode(err, "token-malformed")
}

func TestAClientTrustsTheOneSignerOnly(t *testing.T) {
	s, tokens := forFiles(t)
	token := tokens.Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	for name, o := range map[string]client.Options{
		"another ID":   {Address: s.address, Signer: idOf(t, "heddle-system", "heddle"), Bundle: s.bundleNow},
		"another root": {Address: s.address, Signer: signerID(t), Bundle: func() (*spiffebundle.Bundle, error) { return newRoot(t).Bundle(), nil }},
	} {
		if _, err := client.New(o).SVID(t.Context(), token, csrOf(t, newKey(t))); err == nil || !strings.Contains(err.Error(), "verify the signer") {
			t.Errorf("%s: %v", name, err)
		} else if !client.Retryable(err) {
			t.Errorf("%s: not tried again, though the bundle may be an old one: %v", name, err)
		}
	}
	if _, err := s.client(nil).SVID(t.Context(), token, csrOf(t, newKey(t))); err != nil {
		t.Errorf("the token was spent on somebody else: %v", err)
	}
}

func TestWaitingEndsWhenTheSignerStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ca := newAuthorities(newRoot(t))
	s := ForFiles(Options{ID: signerID(t), Authorities: ca}, attest.NewJoinTokens(nil, nil))
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	running := &signer{t: t, server: s, address: l.Addr().String(), ca: ca}
	c := running.client(running.sidecar("shop", "web", "web-1"))
	waited := make(chan error, 1)
	go func() {
		_, err := c.Bundle(t.Context(), identity.Fingerprint(ca.bundle), client.Uses{})
		waited <- err
	}()
	eventually(t, "the sidecar waits", func() bool { return len(s.Sidecars().Sidecars()) == 1 })
	cancel()
	if err := <-waited; err == nil || !client.Retryable(err) {
		t.Errorf("who waited got %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// eventually waits for ok to hold, asking it again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
