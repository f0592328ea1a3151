package wire_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestRoutesMatchWhatTheySay(t *testing.T) {
	mesh := wire.Start(t, "routes")
	for _, c := range []struct {
		method, path string
		options      []wire.Option
		want         string // "" for no route
	}{
		{path: "/exact", want: "exact"},
		{path: "/exact?q=1", want: "exact"},
		{path: "/exact/", want: ""},
		{path: "/v2", want: "prefix"},
		{path: "/v2/", want: "prefix"},
		{path: "/v2/items", want: "prefix"},
		{path: "/v2?q=1", want: "prefix"},
		{path: "/v20", want: ""},
		{path: "/v2/second", want: "prefix"},
		{path: "/V2", want: ""},
		{path: "/x/../v2/./items", want: "prefix"},
		{path: "/%76%32/items", want: "prefix"},
		{path: "//v2/items", want: ""},
		{path: "/x/..%2Fv2", want: ""},
		{path: "/items/42", want: "regex"},
		{path: "/items/42?q=1", want: "regex"},
		{path: "/items/42/more", want: ""},
		{path: "/all/items/42", want: ""},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "blue")}, want: "header-exact"},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "blues")}, want: ""},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "red-1")}, want: "header-prefix"},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "red")}, want: ""},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "green")}, want: "header-regex"},
		{path: "/", options: []wire.Option{wire.Header("x-tenant", "greenish")}, want: ""},
		{path: "/", options: []wire.Option{wire.Header("x-debug", "")}, want: "header-present"},
		{path: "/private", want: "header-absent"},
		{path: "/private", options: []wire.Option{wire.Header("authorization", "Bearer x")}, want: ""},
		{method: "DELETE", path: "/", want: "method"},
		{method: "PUT", path: "/", want: "methods"},
		{method: "PATCH", path: "/", want: "methods"},
		{method: "POST", path: "/", want: ""},
		{path: "/?lang=de", want: "query"},
		{path: "/?a=b&lang=de", want: "query"},
		{path: "/?lang=den", want: ""},
		{path: "/?page=12", want: "query-regex"},
		{path: "/?page=12a", want: ""},
		{path: "/both", options: []wire.Option{wire.Header("x-one", "1"), wire.Header("x-two", "2")}, want: "both"},
		{path: "/both", options: []wire.Option{wire.Header("x-one", "1")}, want: ""},
		{path: "/left", want: "either"},
		{path: "/right", want: "either"},
		{path: "/", want: ""},
	} {
		method := c.method
		if method == "" {
			method = http.MethodGet
		}
		got := mesh.Caller("web").Do(method, "http://catalog:8080"+c.path, c.options...).WantStatus(http.StatusOK)
		if route := got.Header.Get("x-route"); route != c.want {
			t.Errorf("%s %s takes route %q, want %q (request as received: %+v)", method, c.path, route, c.want, got.Facts())
		}
	}
}

func TestRoutesCanDependOnTheCaller(t *testing.T) {
	mesh := wire.Start(t, "routes-by-caller")
	for pod, route := range map[string]string{"web": "account", "mobile": "labels", "report": "namespace", "admin": ""} {
		mesh.Caller(pod).Get("http://catalog.shop:8080/").WantStatus(http.StatusOK).WantHeader("x-route", route)
	}
}

func TestAPolicyInACallersNamespaceHoldsForThatNamespaceAlone(t *testing.T) {
	mesh := wire.Start(t, "caller-policy")
	mesh.App("catalog-1").Does(wire.Wait(750 * time.Millisecond))

	mesh.Caller("report").Get("http://catalog.shop:8080/").WantStatus(http.StatusOK)
	mesh.Caller("web").Get("http://catalog.shop:8080/").WantStatus(http.StatusGatewayTimeout)
}

// What an application says of itself, or passes on of another, is not what its caller's sidecar saw.
func TestOnlyTheCallersOwnSidecarTellsOfFlags(t *testing.T) {
	mesh := wire.Start(t, "plain")
	says := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("x-heddle-response-flags", "NC")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
	}
	for _, pod := range []string{"catalog-1", "outside-1"} {
		mesh.App(pod).Does(says)
	}
	for _, got := range []*wire.Response{
		mesh.Get("http://catalog:8080/"), mesh.Get("http://outside:8080/"), mesh.Outsider().Get("http://catalog-1:8080/"),
	} {
		got.WantStatus(http.StatusServiceUnavailable).WantHeader("x-heddle-response-flags", "")
	}
}

func TestRoutesToWhatIsNotThereAnswer503(t *testing.T) {
	mesh := wire.Start(t, "missing-targets")
	web := mesh.Caller("web")
	const flags = "x-heddle-response-flags"
	for path, flag := range map[string]string{"/no-service": "NC", "/no-port": "NC", "/no-pods": "UH"} {
		web.Get("http://catalog:8080"+path).WantStatus(http.StatusServiceUnavailable).WantHeader(flags, flag)
	}
	mesh.App("catalog-1").WantRequests(0)

	web.Get("http://catalog:8080/").WantStatus(http.StatusOK).WantHeader(flags, "")

	web.Get("http://empty:8080/").WantStatus(http.StatusServiceUnavailable).WantHeader(flags, "UH")

	const n = 200
	all := web.Times(n, "http://catalog:8080/half")
	got := wire.Statuses(all)
	for _, a := range all {
		if flag := a.Header.Get(flags); (flag == "NC") != (a.Status == http.StatusServiceUnavailable) {
			t.Fatalf("an answer %d has the flags %q", a.Status, flag)
		}
	}
	wire.WantShare(t, "requests to the Service that is not there", got[http.StatusServiceUnavailable], n, 0.5)
	if got[http.StatusOK]+got[http.StatusServiceUnavailable] != n {
		t.Errorf("answers are %v", got)
	}
}
