package wire_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestRewritesChangeWhatTheServerSees(t *testing.T) {
	mesh := wire.Start(t, "rewrites")
	for sent, want := range map[string]struct{ path, host string }{
		"/api/v1/items?n=1": {"/items?n=1", "catalog:8080"},
		"/api/v1":           {"/", "catalog:8080"},
		"/api/v1/":          {"/", "catalog:8080"},
		"/api/v1?n=1":       {"/?n=1", "catalog:8080"},
		"/api/v10":          {"/api/v10", "catalog:8080"},
		"/old/a/b?n=1":      {"/new?n=1", "catalog:8080"},
		"/tenant/x":         {"/tenant/x", "tenant.example.com"},
		"/other":            {"/other", "catalog:8080"},
	} {
		got := mesh.Get("http://catalog:8080" + sent).WantStatus(http.StatusOK).Facts()
		if got.Path != want.path || got.Host != want.host {
			t.Errorf("%s arrives as %s at host %s, want %s at %s", sent, got.Path, got.Host, want.path, want.host)
		}
	}
}

func TestRedirectsAndDirectResponsesNeedNoServer(t *testing.T) {
	mesh := wire.Start(t, "redirects")
	mesh.App("catalog-1").Refuse()

	mesh.Get("http://catalog:8080/old/items?n=1").WantStatus(http.StatusPermanentRedirect).
		WantHeader("location", "http://catalog:8080/new/items?n=1")
	mesh.Get("http://catalog:8080/shop").WantStatus(http.StatusFound).
		WantHeader("location", "https://shop.example.com:8443/start")
	got := mesh.Get("http://catalog:8080/coffee").WantStatus(http.StatusTeapot)
	if string(got.Body) != "short and stout" {
		t.Errorf("the body is %q", got.Body)
	}
}

func TestHeadersAreSetAddedAndRemoved(t *testing.T) {
	mesh := wire.Start(t, "headers")
	got := mesh.Get("http://catalog:8080/", wire.Header("x-tenant", "red"), wire.Header("x-tag", "caller"),
		wire.Header("x-secret", "1"), wire.Header("x-kept", "1"))

	got.WantHeader("cache-control", "no-store").WantHeader("x-served", "mesh").WantHeader("x-app", "")
	seen := got.Facts().Header
	for name, want := range map[string][]string{
		"X-Tenant": {"blue"}, "X-Share": {"100%"}, "X-Tag": {"caller", "mesh"}, "X-Secret": nil, "X-Kept": {"1"},
	} {
		if !slices.Equal(seen[name], want) {
			t.Errorf("the server sees %s: %q, want %q", name, seen[name], want)
		}
	}
}

func TestCORSAnswersBrowsers(t *testing.T) {
	mesh := wire.Start(t, "cors")
	web, catalog := mesh.Caller("web"), mesh.App("catalog-1")
	const api = "http://catalog:8080/api/items"
	preflight := func(origin string) *wire.Response {
		return web.Do(http.MethodOptions, api, wire.Header("origin", origin), wire.Header("access-control-request-method", "PUT"))
	}

	for _, origin := range []string{"https://shop.example.com", "https://blue.preview.example.com"} {
		preflight(origin).WantStatus(http.StatusOK).
			WantHeader("access-control-allow-origin", origin).
			WantHeader("access-control-allow-methods", "GET,PUT").
			WantHeader("access-control-allow-headers", "content-type").
			WantHeader("access-control-max-age", "600").
			WantHeader("access-control-allow-credentials", "true")
		catalog.WantRequests(0)
		web.Get(api, wire.Header("origin", origin)).WantStatus(http.StatusOK).
			WantHeader("access-control-allow-origin", origin).
			WantHeader("access-control-expose-headers", "x-app")
		catalog.Forget()
	}
	preflight("https://evil.example.com").WantHeader("access-control-allow-origin", "")
	web.Get(api, wire.Header("origin", "https://evil.example.com")).WantHeader("access-control-allow-origin", "")
}
