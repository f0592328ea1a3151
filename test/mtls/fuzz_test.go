package mtls

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The fuzzers look for more of them: go test ./test/mtls -fuzz FuzzNoSpellingOfARequestGetsPastADenial
func FuzzNoSpellingOfARequestGetsPastADenial(f *testing.F) {
	g := newGuarded(f)
	g.rule(denials, "", ask("GET", "/admin"), http.StatusForbidden)
	f.Add("POST", "/x", "catalog", "x-http-method-override", "delete")
	g.fuzz(f, "", func(a arrival) bool { return !denied(a) })
}

// Who asks is somebody who may, so that only the rest of the request decides.
func FuzzNoSpellingOfARequestWidensAnAllowance(f *testing.F) {
	g := newGuarded(f)
	g.rule(allowances, "web", ask("GET", "/x"), http.StatusForbidden)
	f.Add("GET", "/public/x", "catalog", "x-http-method-override", "DELETE")
	g.fuzz(f, "web", allowed)
}

// fuzz makes requests of HTTP/1.1 and of HTTP/2 up, from the known ones on, and looks at what arrives.
func (g *guarded) fuzz(f *testing.F, account string, may func(arrival) bool) {
	for _, target := range targets() {
		f.Add("GET", target, "catalog", "", "")
	}
	for _, host := range []string{"CataLog", "catalog.", "catalog:8080", "", "a b", "other@catalog"} {
		f.Add("GET", "/admin", host, "", "")
	}
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		text := method + " " + target + " HTTP/1.1\r\nhost: " + host + "\r\nconnection: close\r\n"
		fields := []hpack.HeaderField{field(":method", method), field(":scheme", "http"), field(":authority", host), field(":path", target)}
		if name != "" {
			text += name + ": " + value + "\r\n"
			fields = append(fields, field(name, value))
		}
		g.send(t, account, text+"\r\n")
		g.sendHTTP2(t, account, fields)(50 * time.Millisecond) // what arrives later is seen by the next one
		for _, a := range g.arrived() {
			if !may(a) {
				t.Errorf("%q or %q reached the application as %+v", text, fields, a)
			}
		}
	})
}

// A client of gRPC is told by a status and not by HTTP's.
func TestACallOfGRPCIsRefusedInItsOwnWords(t *testing.T) {
	g := newGuarded(t)
	g.rule("kind: Access\nservice: catalog\nrules: [{from: [shop/web], methods: [POST], paths: [/pkg.Shop/Get]}]\n", "web", ask("GET", "/x"), http.StatusForbidden)
	invoke := func(account, method string) error {
		client, err := grpc.NewClient("passthrough:///catalog", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return g.connect(t, account, portHTTP), nil }))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		return client.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	for _, c := range []struct {
		account, method string
		passes          bool
	}{{"web", "/pkg.Shop/Get", true}, {"web", "/pkg.Shop/Drop", false}, {"web", "/pkgXShop/Get", false}, {"other", "/pkg.Shop/Get", false}, {"", "/pkg.Shop/Get", false}} {
		err := invoke(c.account, c.method)
		arrived := len(g.arrived())
		s := status.Convert(err)
		refused := s.Code() == codes.PermissionDenied && strings.HasPrefix(s.Message(), "access denied: HDA-")
		if c.passes && (arrived != 1 || refused) || !c.passes && (arrived != 0 || !refused) {
			t.Errorf("%s as %q: %d arrived; the client is told %v, want it to pass: %v", c.method, c.account, arrived, err, c.passes)
		}
	}
}
