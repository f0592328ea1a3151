package wire_test

import (
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestEachConditionForRetriesIsThatOneAlone(t *testing.T) {
	mesh := wire.Start(t, "retry-conditions")
	catalog := mesh.App("catalog-1")
	// tries says how often a request was made whose first try fails with a status.
	tries := func(path string, failure int) int {
		catalog.Forget()
		catalog.Does(wire.FailFirst(1, failure))
		want := http.StatusOK
		got := mesh.Get("http://catalog:8080" + path)
		if len(catalog.Requests()) == 1 {
			want = failure
		}
		got.WantStatus(want)
		return len(catalog.Requests())
	}
	for _, c := range []struct {
		path     string
		statuses []int
		want     int
	}{
		{"/gateway", []int{502, 503, 504}, 2},
		{"/gateway", []int{500, 501, 409, 429}, 1},
		{"/conflict", []int{409}, 2},
		{"/conflict", []int{400, 404, 408, 429, 503}, 1},
		{"/", []int{409, 503}, 1},
	} {
		for _, status := range c.statuses {
			if got := tries(c.path, status); got != c.want {
				t.Errorf("%s failing with %d was tried %d times, want %d", c.path, status, got, c.want)
			}
		}
	}
}

// The application is the one who refuses here, and between it and the caller's sidecar there is its own.
func TestARefusedStreamIsTriedAgainAndAResetOneIsNot(t *testing.T) {
	mesh := wire.Start(t, "retry-conditions")
	var streams wire.Streams
	mesh.App("search-1").Speaks(streams.Serve)
	for _, c := range []struct {
		what              string
		code              http2.ErrCode
		ended, tried, got int
	}{
		{"refused", wire.RefusedStream, 2, 3, http.StatusOK},
		{"refused more often than there are attempts", wire.RefusedStream, 9, 3, http.StatusServiceUnavailable},
		{"reset", wire.ResetStream, 2, 1, http.StatusServiceUnavailable},
	} {
		streams.EndFirst(c.ended, c.code)
		mesh.Get("http://search:8081/").WantStatus(c.got).WantHeader("x-heddle-failure", "")
		if n := streams.Seen(); n != c.tried {
			t.Errorf("%s: the application saw %d tries, want %d", c.what, n, c.tried)
		}
	}
}

func TestCallsAreRetriedForTheStatusesThatAreListed(t *testing.T) {
	mesh := wire.Start(t, "retry-conditions")
	service := &wire.TestService{}
	mesh.Apps("stock").ServeGRPC(service)
	client := grpc_testing.NewTestServiceClient(dialGRPC(t, mesh, "stock:9090"))
	call := func(c codes.Code) codes.Code {
		service.FailFirst(2, c)
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{})
		return status.Code(err)
	}
	for _, c := range []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Internal, codes.ResourceExhausted} {
		if got := call(c); got != codes.OK {
			t.Errorf("a call that failed twice with %v ended with %v", c, got)
		}
	}
	for _, c := range []codes.Code{codes.Unavailable, codes.Aborted} {
		if got := call(c); got != c {
			t.Errorf("a call that failed twice with %v, which is not listed, ended with %v", c, got)
		}
	}
}
