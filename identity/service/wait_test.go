package service

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// local is a signer that is asked without a network.
func local(t testing.TB, change ...func(*Options)) (*Server, *authorities) {
	ca := newAuthorities(newRoot(t))
	o := Options{ID: signerID(t), Authorities: ca}
	for _, c := range change {
		c(&o)
	}
	return ForFiles(o, attest.NewJoinTokens(nil, nil)), ca
}

// request comes from pod shop/web-1, by its certificate.
func request(t testing.TB, ca *authorities, method, target, body string) *http.Request {
	cert := certificate(t, ca.signing, idOf(t, "shop", "web"), "web-1")
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{must[*x509.Certificate](t)(x509.ParseCertificate(cert.Certificate[0]))}}
	return r
}

func TestWhoWaitsIsAnsweredAfter45SecondsAndIsConnectedTillThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ca := local(t)
		begin := time.Now()
		name := identity.Fingerprint(ca.bundle)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, request(t, ca, "GET", "/v1/bundle?after="+name+"&taken="+name, ""))
		if took := time.Since(begin); w.Code != http.StatusNoContent || took != 45*time.Second {
			t.Errorf("answered %d after %v", w.Code, took)
		}
		list := s.Sidecars().Sidecars()
		if len(list) != 1 || !list[0].Connected || list[0].Taken != name || list[0].Authority != ca.signing.Name() {
			t.Errorf("known: %+v", list)
		}
		time.Sleep(lull) // the clock of the test moves
		if list := s.Sidecars().Sidecars(); list[0].Connected {
			t.Error("it is connected long after its last request")
		}
	})
}

func TestASidecarWithANewLeafIsAskedForANewReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ca := local(t)
		name := identity.Fingerprint(ca.bundle)
		begin := time.Now()
		answered := make(chan *httptest.ResponseRecorder)
		go func() {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, request(t, ca, "GET", "/v1/bundle?after="+name, ""))
			answered <- w
		}()
		synctest.Wait()
		key := newKey(t)
		r := request(t, ca, "POST", "/v1/svid", string(must[[]byte](t)(json.Marshal(map[string][]byte{"csr": csrOf(t, key)}))))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("renewal: %d %s", w.Code, w.Body)
		}
		if w := <-answered; w.Code != http.StatusNoContent || time.Since(begin) != 2*time.Second {
			t.Errorf("answered %d after %v", w.Code, time.Since(begin))
		}
	})
}

func TestARequestThatIsNotExactlyWhatItMustBeIsRefused(t *testing.T) {
	s, ca := local(t)
	for name, c := range map[string]struct {
		method, target, kind, body string
		status                     int
		code                       string
	}{
		"no such path":     {"GET", "/v2", "", "", 404, codeNotFound},
		"another method":   {"GET", "/v1/svid", "", "", 405, codeMethod},
		"no JSON by name":  {"POST", "/v1/jwt", "text/plain", `{"audience":["x"]}`, 415, codeRequest},
		"no JSON":          {"POST", "/v1/jwt", "application/json", `audience=x`, 400, codeRequest},
		"two values":       {"POST", "/v1/jwt", "application/json", `{"audience":["x"]}{}`, 400, codeRequest},
		"an unknown field": {"POST", "/v1/jwt", "application/json", `{"audience":["x"],"sub":"spiffe://cluster.local/ns/a/sa/b"}`, 400, codeRequest},
		"a field twice":    {"POST", "/v1/jwt", "application/json", `{"audience":["x"],"audience":["y"]}`, 400, codeRequest},
		"another case":     {"POST", "/v1/jwt", "application/json", `{"Audience":["x"]}`, 400, codeRequest},
		"nobody as target": {"POST", "/v1/jwt", "application/json", `{"audience":[]}`, 400, "audience"},
		"no fingerprint":   {"GET", "/v1/bundle?after=x", "", "", 400, codeRequest},
		"too much":         {"POST", "/v1/jwt", "application/json", `{"audience":["` + strings.Repeat("x", maxBody) + `"]}`, 413, codeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, ca, c.method, c.target, c.body)
			r.Header.Set("Content-Type", c.kind)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			var said struct{ Code, Message string }
			if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != c.status || said.Code != c.code || said.Message == "" {
				t.Errorf("answered %d %s, %v; want %d %s", w.Code, w.Body, err, c.status, c.code)
			}
		})
	}
}

func TestFactsAreForThoseWhoMayReadThem(t *testing.T) {
	get := func(people func(*http.Request) error) *httptest.ResponseRecorder {
		s, ca := local(t, func(o *Options) { o.People, o.Progress = people, func() any { return "steady" } })
		s.ServeHTTP(httptest.NewRecorder(), request(t, ca, "GET", "/v1/bundle", ""))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/facts", nil))
		return w
	}
	for name, people := range map[string]func(*http.Request) error{
		"nobody":        nil,
		"somebody else": func(*http.Request) error { return errors.New("no") },
	} {
		if w := get(people); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), `"forbidden"`) {
			t.Errorf("%s: answered %d %s", name, w.Code, w.Body)
		}
	}
	w := get(func(*http.Request) error { return nil })
	var f Facts
	if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	if f.TrustDomain != "cluster.local" || len(f.Anchors) != 1 || len(f.Sidecars) != 1 || f.Sidecars[0].Pod != "web-1" || f.Rotation != "steady" {
		t.Errorf("facts: %+v", f)
	}
	if f.Anchors[0].Name != f.Sidecars[0].Authority {
		t.Errorf("the leaf's authority %s is not told by its name %s", f.Sidecars[0].Authority, f.Anchors[0].Name)
	}
}

func TestASidecarThatAsksTooOftenIsToldToWait(t *testing.T) {
	now := time.Now()
	s, ca := local(t, func(o *Options) { o.Now = func() time.Time { return now } })
	r := request(t, ca, "GET", "/v1/bundle", "")
	for i := range 51 {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if want := i == 50; want != (w.Code == http.StatusTooManyRequests) {
			t.Fatalf("request %d: answered %d", i, w.Code)
		}
	}
}
