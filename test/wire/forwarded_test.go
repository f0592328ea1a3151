package wire_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

// forwarded is what proxies on the way say of a request, or whoever wants to be taken for one.
func forwarded(from string) []wire.Option {
	return []wire.Option{
		wire.Header("x-forwarded-for", from), wire.Header("x-forwarded-proto", "https"), wire.Header("x-forwarded-host", "www.example.com"),
		wire.Header("x-forwarded-port", "8443"), wire.Header("x-real-ip", from), wire.Header("forwarded", "for="+from+";proto=https"),
	}
}

func TestWhatWasForwardedIsPassedOn(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	for name, caller := range map[string]*wire.Caller{"web": mesh.Caller("web"), "web, by HTTP/2": mesh.Caller("web").HTTP2(), "outsider": mesh.Outsider()} {
		host := "catalog"
		if name == "outsider" {
			host = "store-1"
		}
		seen := caller.Get("http://"+host+":8080/", forwarded("192.0.2.7, 10.9.9.9")...).WantStatus(http.StatusOK).Facts()
		for header, want := range map[string]string{
			"X-Forwarded-For": "192.0.2.7, 10.9.9.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.example.com",
			"X-Forwarded-Port": "8443", "X-Real-Ip": "192.0.2.7, 10.9.9.9", "Forwarded": "for=192.0.2.7, 10.9.9.9;proto=https",
		} {
			if got := seen.Header.Get(header); got != want {
				t.Errorf("%s: %s arrives as %q, want %q", name, header, got, want)
			}
		}
		if seen.Host != host+":8080" {
			t.Errorf("%s: the host arrives as %s", name, seen.Host)
		}
	}
}

func TestWhatWasForwardedDecidesNothing(t *testing.T) {
	t.Run("of the pod that a caller's address chooses", func(t *testing.T) {
		mesh := wire.Start(t, "consistent-hash")
		for _, service := range []string{"by-source", "by-affinity"} {
			pod := mesh.Get("http://" + service + ":8080/").WantStatus(http.StatusOK).Facts().Pod
			for i := range 20 {
				mesh.Get("http://"+service+":8080/", forwarded(fmt.Sprint("192.0.2.", i+1))...).WantFrom(pod)
			}
		}
	})
	t.Run("of where a redirect leads", func(t *testing.T) {
		mesh := wire.Start(t, "redirects")
		for _, c := range []*wire.Caller{mesh.Caller("web"), mesh.Caller("web").HTTP2()} {
			c.Get("http://catalog:8080/old", forwarded("192.0.2.7")...).WantHeader("location", "http://catalog:8080/new")
		}
	})
	t.Run("of the route", func(*testing.T) {
		mesh := wire.Start(t, "routes")
		for _, path := range []string{"/exact", "/v2/items", "/private", "/"} {
			want := mesh.Get("http://catalog:8080" + path).WantStatus(http.StatusOK).Header.Get("x-route")
			mesh.Get("http://catalog:8080"+path, forwarded("127.0.0.1")...).WantStatus(http.StatusOK).WantHeader("x-route", want)
		}
	})
	t.Run("of who may call", func(t *testing.T) {
		mesh := wire.Start(t, "default-deny")
		as := append(forwarded("10.1.0.1"), wire.Header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/web"))
		mesh.Get("http://catalog:8080/items", as...).WantStatus(http.StatusOK)
		mesh.Caller("web").Do(http.MethodPut, "http://catalog:8080/items", as...).WantStatus(http.StatusForbidden)
		if got, err := mesh.Outsider().Try(t.Context(), http.MethodGet, "http://catalog-1:8080/items", as...); err == nil {
			t.Errorf("a caller without an identity is answered %d", got.Status)
		}
	})
}
