package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/operator"
)

// reviews answers as it is told.
type reviews struct {
	status authenticationv1.TokenReviewStatus
	err    error
	asked  int
}

func (v *reviews) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	v.asked++
	r.Status = v.status
	return r, v.err
}

// empty is a mesh without sidecars.
type empty struct{}

func (empty) Health(context.Context) (Health, error) { return Health{}, errors.New("the loop is gone") }

func (empty) Proxies(_ context.Context, namespace string) ([]Proxy, error) {
	return []Proxy{{Namespace: namespace}}, nil
}

func (empty) Config(context.Context, string, string) (Config, error) { return Config{}, nil }

// tokenFor looks like one; what it says is checked by nobody here but glance.
func tokenFor(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
}

func lasting() string {
	return tokenFor(fmt.Sprintf(`{"aud":%q,"exp":%d}`, Audience, time.Now().Add(time.Hour).Unix()))
}

func accepted(username string, audiences ...string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: audiences, User: authenticationv1.UserInfo{Username: username}}
}

// ask gives the answer to one question.
func ask(h http.Handler, method, path, token string) (int, operator.Problem, string) {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var p operator.Problem
	_ = json.Unmarshal(w.Body.Bytes(), &p)
	return w.Code, p, w.Body.String()
}

func TestOnlyWhatTheAPIServerSaysClearlyIsBelieved(t *testing.T) {
	const viewer = "system:serviceaccount:heddle-system:heddle-view"
	for name, c := range map[string]struct {
		status authenticationv1.TokenReviewStatus
		err    error
		code   string
		http   int
	}{
		"a viewer":                              {status: accepted(viewer, Audience), http: 200},
		"one who may tap":                       {status: accepted("system:serviceaccount:heddle-system:heddle-tap", Audience), http: 200},
		"an API server that knows no audiences": {status: accepted(viewer), code: WrongAudience, http: 401},
		"another audience":                      {status: accepted(viewer, "heddle"), code: WrongAudience, http: 401},
		"not authenticated":                     {status: authenticationv1.TokenReviewStatus{Audiences: []string{Audience}}, code: TokenRefused, http: 401},
		"an error beside it":                    {status: authenticationv1.TokenReviewStatus{Authenticated: true, Error: "x", Audiences: []string{Audience}}, code: TokenRefused, http: 401},
		"a person of that name":                 {status: accepted("heddle-view", Audience), code: NotAViewer, http: 403},
		"a node":                                {status: accepted("system:node:heddle-view", Audience), code: NotAViewer, http: 403},
		"an account with more behind it":        {status: accepted(viewer+":x", Audience), code: NotAViewer, http: 403},
		"a namespace that is none":              {status: accepted("system:serviceaccount:a/b:heddle-view", Audience), code: NotAViewer, http: 403},
		"an empty namespace":                    {status: accepted("system:serviceaccount::heddle-view", Audience), code: NotAViewer, http: 403},
		"no answer":                             {err: errors.New("connection refused"), code: ReviewUnavailable, http: 503},
	} {
		h := Handler(Options{Mesh: empty{}, Authenticator: NewReviewer(&reviews{status: c.status, err: c.err}, "heddle-system"), Version: buildinfo.Info{Version: "v1"}})
		status, p, body := ask(h, http.MethodGet, VersionPath, lasting())
		if status != c.http || p.Code != c.code {
			t.Errorf("%s: %d %s; want %d %q", name, status, body, c.http, c.code)
		}
	}
}

func TestATokenThatCannotBeGoodCostsNoReview(t *testing.T) {
	v := &reviews{}
	h := Handler(Options{Mesh: empty{}, Authenticator: NewReviewer(v, "heddle-system")})
	for token, want := range map[string]string{
		"": NoToken, "x": TokenMalformed, "a.b.c": TokenMalformed, strings.Repeat("x", maxToken) + ".x.x": TokenMalformed,
		tokenFor(`{"aud":["a","b"],"exp":99999999999}`):   WrongAudience,
		tokenFor(`{"aud":7,"exp":99999999999}`):           TokenMalformed,
		tokenFor(`{"exp":99999999999}`):                   TokenMalformed,
		tokenFor(`{"aud":"heddle-api","exp":1000000000}`): TokenExpired,
		tokenFor(`{"aud":"heddle-api"}`):                  TokenExpired,
	} {
		if status, p, body := ask(h, http.MethodGet, ProxiesPath, token); p.Code != want || status != http.StatusUnauthorized {
			t.Errorf("%.60s: %d %s; want %s", token, status, body, want)
		}
	}
	if v.asked != 0 {
		t.Errorf("the API server was asked %d times", v.asked)
	}
}

func TestAFloodOfQuestionsIsTurnedAway(t *testing.T) {
	v := &reviews{status: accepted("system:serviceaccount:heddle-system:heddle-view", Audience)}
	reviewer := NewReviewer(v, "heddle-system")
	still := time.Now()
	reviewer.now = func() time.Time { return still }
	h := Handler(Options{Mesh: empty{}, Authenticator: reviewer})
	turnedAway := 0
	for range 50 {
		if status, p, _ := ask(h, http.MethodGet, VersionPath, lasting()); status == http.StatusTooManyRequests && p.Code == TooMany {
			turnedAway++
		}
	}
	if turnedAway != 10 || v.asked != 40 {
		t.Errorf("%d of 50 were turned away, and %d reviewed; want 10 and 40", turnedAway, v.asked)
	}
}

func TestNothingButGetOnKnownPathsIsAnswered(t *testing.T) {
	h := Handler(Options{Mesh: empty{}, Authenticator: Owner{}})
	for _, c := range []struct {
		method, path, code string
		status             int
	}{
		{http.MethodPost, ProxiesPath, NoSuchPath, 404}, {http.MethodDelete, ProxiesPath, NoSuchPath, 404},
		{http.MethodGet, "/", NoSuchPath, 404}, {http.MethodGet, "/v1/proxies/a/b", NoSuchPath, 404}, {http.MethodGet, "/metrics", NoSuchPath, 404},
		{http.MethodGet, IdentityPath, NoFacts, 404},
		{http.MethodGet, HealthPath, Unavailable, 503},
		{http.MethodGet, ProxiesPath, "", 200}, {http.MethodGet, ConfigPath("a", "b"), "", 200},
	} {
		if status, p, body := ask(h, c.method, c.path, ""); status != c.status || p.Code != c.code {
			t.Errorf("%s %s: %d %s; want %d %q", c.method, c.path, status, body, c.status, c.code)
		}
	}
}

func TestATenantsQuestionAboutAllIsAboutHisNamespace(t *testing.T) {
	v := &reviews{status: accepted("system:serviceaccount:shop:heddle-view", Audience)}
	h := Handler(Options{Mesh: empty{}, Authenticator: NewReviewer(v, "heddle-system")})
	if _, _, body := ask(h, http.MethodGet, ProxiesPath, lasting()); !strings.Contains(body, `"namespace":"shop"`) {
		t.Errorf("it is told %s", body)
	}
	for _, path := range []string{ProxiesPath + "?namespace=bank", ConfigPath("bank", "web"), IdentityPath} {
		if status, p, body := ask(h, http.MethodGet, path, lasting()); status != http.StatusForbidden || p.Code != OtherNamespace {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestTheAPIIsServedOnLoopbackOnly(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), l, http.NotFoundHandler())
	if err == nil || !strings.Contains(err.Error(), "listen on a loopback address") {
		t.Errorf("it ends with %v", err)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the listener is open still")
	}
}
