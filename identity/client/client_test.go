package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// signer answers as a test says.
type signer struct {
	t      testing.TB
	ca     *identity.Authority
	server *httptest.Server

	mu     sync.Mutex
	answer http.HandlerFunc
	seen   []*http.Request
	bodies []string
}

func idOf(t testing.TB, ca *identity.Authority, namespace, account string) spiffeid.ID {
	return must[spiffeid.ID](t)(identity.ID(ca.TrustDomain(), namespace, account))
}

func newRoot(t testing.TB) *identity.Authority {
	td := must[spiffeid.TrustDomain](t)(identity.ParseTrustDomain("cluster.local"))
	return must[*identity.Authority](t)(identity.NewRoot(td, time.Now(), 0))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func csrOf(t testing.TB, key *ecdsa.PrivateKey) []byte {
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
}

func certificate(t testing.TB, ca *identity.Authority, id spiffeid.ID, key *ecdsa.PrivateKey) *tls.Certificate {
	t.Helper()
	chain := must[[]*x509.Certificate](t)(ca.Issue(t.Context(), identity.Request{ID: id, Key: key.Public()}))
	return &tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key, Leaf: chain[0]}
}

func newSigner(t testing.TB) *signer {
	s := &signer{t: t, ca: newRoot(t)}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		s.mu.Lock()
		s.seen, s.bodies = append(s.seen, r), append(s.bodies, string(body))
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	own := certificate(t, s.ca, idOf(t, s.ca, "heddle-system", "heddle-signer"), newKey(t))
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	s.server.EnableHTTP2 = true
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

func (s *signer) says(status int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if _, err := io.WriteString(w, text); err != nil {
			s.t.Logf("the client went away: %v", err)
		}
	}
}

func (s *signer) issues(ca *identity.Authority, id spiffeid.ID, key *ecdsa.PrivateKey) {
	bundle := must[[]byte](s.t)(identity.MarshalBundle(s.ca.Bundle()))
	s.says(http.StatusOK, string(must[[]byte](s.t)(json.Marshal(map[string]any{
		"chain": certificate(s.t, ca, id, key).Certificate, "bundle": json.RawMessage(bundle),
	}))))
}

func (s *signer) client(change ...func(*Options)) *Client {
	o := Options{
		Address: strings.TrimPrefix(s.server.URL, "https://"), Signer: idOf(s.t, s.ca, "heddle-system", "heddle-signer"),
		Bundle: func() (*spiffebundle.Bundle, error) { return s.ca.Bundle(), nil },
	}
	for _, c := range change {
		c(&o)
	}
	c := New(o)
	s.t.Cleanup(c.Close)
	return c
}

func TestWhatTheSignerIssuesIsCheckedBeforeItIsUsed(t *testing.T) {
	s := newSigner(t)
	key := newKey(t)
	web := idOf(t, s.ca, "shop", "web")
	s.issues(s.ca, web, key)
	svid, err := s.client().SVID(t.Context(), "token", csrOf(t, key))
	if err != nil || svid.Chain[0].URIs[0].String() != web.String() || identity.Fingerprint(svid.Bundle) != identity.Fingerprint(s.ca.Bundle()) {
		t.Errorf("got %+v, %v", svid, err)
	}
	if got := s.seen[0]; got.Header.Get("Authorization") != "Bearer token" || got.ProtoMajor != 2 || got.Method+got.URL.Path != "POST/v1/svid" {
		t.Errorf("asked %+v", got)
	}

	s.issues(s.ca, web, newKey(t))
	if _, err := s.client().SVID(t.Context(), "token", csrOf(t, key)); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("for another key: %v", err)
	}
	s.issues(newRoot(t), web, key)
	if _, err := s.client().SVID(t.Context(), "token", csrOf(t, key)); identity.CodeOf(err) != identity.CodeChain {
		t.Errorf("not by the bundle's root: %v", err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no object": "[]", "no bundle": `{"chain":[]}`, "no certificate": `{"chain":["YQ=="],"bundle":{"keys":[]}}`,
		"too much": `{"chain":["` + strings.Repeat("A", maxAnswer) + `"]}`,
	} {
		s.says(http.StatusOK, text)
		if _, err := s.client().SVID(t.Context(), "token", csrOf(t, key)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestARefusalCarriesItsCodeAndWhetherToTryAgain(t *testing.T) {
	s := newSigner(t)
	for _, c := range []struct {
		status int
		text   string
		code   string
		retry  bool
	}{
		{400, `{"code":"san","message":"it asks for another's name"}`, "san", false},
		{401, `{"code":"token-expired","message":"read it anew"}`, "token-expired", true},
		{403, `{"code":"not-meshed","message":"inject it"}`, "not-meshed", false},
		{429, `{"code":"rate-limited","message":"wait"}`, "rate-limited", true},
		{503, `{"code":"ca-missing","message":"restore it"}`, "ca-missing", true},
		{502, `<html>bad gateway</html>`, "", true},
		{307, ``, "", false},
	} {
		s.says(c.status, c.text)
		_, err := s.client().JWT(t.Context(), []string{"x"})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status != c.status || e.Code != c.code || Retryable(err) != c.retry {
			t.Errorf("%d: got %v (retryable %v)", c.status, err, Retryable(err))
		}
	}
	if Retryable(nil) {
		t.Error("success is tried again")
	}
	s.server.Close()
	if _, err := s.client().JWT(t.Context(), []string{"x"}); err == nil || !Retryable(err) {
		t.Errorf("with the signer away: %v", err)
	}
}

func TestATokenIsNeverSentToWhereARedirectPoints(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	other.says(http.StatusOK, "{}")
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.server.URL+"/v1/svid", http.StatusTemporaryRedirect)
	}
	if _, err := s.client().SVID(t.Context(), "token", csrOf(t, newKey(t))); err == nil {
		t.Error("the redirect was taken for an answer")
	}
	if len(other.seen) != 0 {
		t.Error("the redirect was followed")
	}
}

func TestTheBundleIsReadAnewAtEveryDial(t *testing.T) {
	s := newSigner(t)
	s.says(http.StatusOK, "{}")
	bundle := newRoot(t).Bundle() // an old one
	c := s.client(func(o *Options) { o.Bundle = func() (*spiffebundle.Bundle, error) { return bundle, nil } })
	if _, err := c.SVID(t.Context(), "token", csrOf(t, newKey(t))); err == nil || !strings.Contains(err.Error(), "verify the signer") {
		t.Errorf("with the old bundle: %v", err)
	}
	if len(s.seen) != 0 {
		t.Error("the token was sent to somebody who was not verified")
	}
	bundle = s.ca.Bundle()
	if _, err := c.JWT(t.Context(), nil); err != nil {
		t.Errorf("with the new one: %v", err)
	}
}

func TestEachCallShowsTheCertificateOfNowAndOnlyWithoutAToken(t *testing.T) {
	s := newSigner(t)
	s.says(http.StatusOK, `{"token":"x"}`)
	web := idOf(t, s.ca, "shop", "web")
	first, second := certificate(t, s.ca, web, newKey(t)), certificate(t, s.ca, web, newKey(t))
	now := first
	c := s.client(func(o *Options) { o.Certificate = func() *tls.Certificate { return now } })
	jwt := func() {
		t.Helper()
		if _, err := c.JWT(t.Context(), []string{"x"}); err != nil {
			t.Fatal(err)
		}
	}
	jwt()
	jwt()
	now = second
	jwt()
	if _, err := c.SVID(t.Context(), "token", csrOf(t, newKey(t))); err == nil {
		t.Error("an answer without a chain was accepted")
	}
	for i, want := range []*tls.Certificate{first, first, second, nil} {
		switch shown := s.seen[i].TLS.PeerCertificates; {
		case want == nil && len(shown) == 0:
		case want != nil && len(shown) == 1 && shown[0].Equal(want.Leaf):
		default:
			t.Errorf("call %d showed %d certificates, or the wrong one", i, len(shown))
		}
	}
	if s.seen[0].RemoteAddr != s.seen[1].RemoteAddr {
		t.Error("a connection was not used again")
	}
}

func TestABundleThatDidNotChangeIsNil(t *testing.T) {
	s := newSigner(t)
	s.says(http.StatusNoContent, "")
	b, err := s.client().Bundle(t.Context(), "a", Uses{Bundle: "b", Leaf: "c"})
	if b != nil || err != nil {
		t.Errorf("got %v, %v", b, err)
	}
	if q := s.seen[0].URL.RawQuery; q != "after=a&leaf=c&taken=b" {
		t.Errorf("asked with %q", q)
	}
	s.says(http.StatusOK, `{"bundle":{"keys":[]}}`)
	if _, err := s.client().Bundle(t.Context(), "", Uses{}); identity.CodeOf(err) != identity.CodeBundle {
		t.Errorf("a bundle that trusts nobody: %v", err)
	}
}

func TestACallEndsWithItsTimeAndWithItsContext(t *testing.T) {
	s := newSigner(t)
	release := make(chan struct{})
	defer close(release)
	s.answer = func(http.ResponseWriter, *http.Request) { <-release }
	if _, err := s.client(func(o *Options) { o.Timeout = 50 * time.Millisecond }).JWT(t.Context(), nil); err == nil || !Retryable(err) {
		t.Errorf("got %v", err)
	}
}

// replicas answers as several behind one address, of which the last one signs, where each connection comes to the next.
func (s *signer) replicas(count int) {
	var at sync.Map // replica by connection
	var connections, asked int
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if _, known := at.LoadOrStore(r.RemoteAddr, connections+1); !known {
			connections++
		}
		asked++
		if replica, _ := at.Load(r.RemoteAddr); replica != count {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
			if _, err := io.WriteString(w, `{"code":"not-leader","message":"ask again"}`); err != nil {
				s.t.Error(err)
			}
			return
		}
		if _, err := io.WriteString(w, `{"token":"x"}`); err != nil {
			s.t.Error(err)
		}
	}
}

func TestACallGoesOnToTheReplicaThatSigns(t *testing.T) {
	s := newSigner(t)
	web := idOf(t, s.ca, "shop", "web")
	shown := certificate(t, s.ca, web, newKey(t))
	holding := func(o *Options) { o.Certificate = func() *tls.Certificate { return shown } }

	s.replicas(attempts)
	c := s.client(holding)
	for range 2 { // the second one over the connection that was found
		if token, err := c.JWT(t.Context(), []string{"x"}); err != nil || token != "x" {
			t.Fatalf("got %q, %v after %d attempts", token, err, len(s.seen))
		}
	}
	if len(s.seen) != attempts+1 || s.bodies[0] != s.bodies[attempts-1] {
		t.Errorf("asked %d times, with %q at first and %q at last", len(s.seen), s.bodies[0], s.bodies[attempts-1])
	}

	s.seen = nil
	s.replicas(attempts + 1)
	_, err := s.client(holding).JWT(t.Context(), []string{"x"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "not-leader" || !Retryable(err) || len(s.seen) != attempts {
		t.Errorf("where nobody signs: %v after %d attempts", err, len(s.seen))
	}
}
