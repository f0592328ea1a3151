package wire_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

// summed answers with a trailer, which tells of one that the request had.
func summed(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("trailer", "x-sum")
		_, _ = io.Copy(w, r.Body) // fails only if the caller is gone
		w.Header().Set("x-sum", "got "+r.Trailer.Get("x-asked"))
	})
}

func TestTrailersPassWhateverTheApplicationsSpeak(t *testing.T) {
	mesh := wire.Start(t, "plain")
	web := mesh.Caller("web")
	for _, app := range append(mesh.Apps("mixed"), mesh.App("catalog-1")) {
		app.Does(summed)
	}
	// mixed has pods with and without a sidecar, in turn.
	for _, service := range []string{"catalog:8080", "mixed:8080", "mixed:8080"} {
		for version, caller := range map[string]*wire.Caller{"HTTP/1.1": web, "HTTP/2": web.HTTP2()} {
			asked := func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), -1
				r.Trailer = http.Header{"X-Asked": {"42"}}
			}
			got := caller.Do(http.MethodPost, "http://"+service+"/", asked).WantStatus(http.StatusOK)
			if sum := got.Trailer.Get("x-sum"); sum != "got 42" || string(got.Body) != "body" {
				t.Errorf("%s to %s: the trailer is %q and the body %q, want \"got 42\" and \"body\"", version, service, sum, got.Body)
			}
		}
	}
}

// hijacks answers a request to upgrade to a protocol, and then echoes bytes.
func hijacks(protocol string) wire.Behaviour {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.EqualFold(r.Header.Get("upgrade"), protocol) {
				http.Error(w, "no upgrade arrived", http.StatusBadRequest)
				return
			}
			c, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
			_, _ = io.Copy(c, buffered)
		})
	}
}

func TestConnectionsAreUpgraded(t *testing.T) {
	mesh := wire.Start(t, "plain")
	web := mesh.Caller("web")
	// asked sends a request to upgrade, and gives the connection and the answer.
	asked := func(t *testing.T, protocol, more string) (*wire.Conn, *bufio.Reader, *http.Response) {
		t.Helper()
		c := web.Dial("catalog:8080")
		if _, err := fmt.Fprintf(c, "POST /exec HTTP/1.1\r\nHost: catalog\r\nConnection: Upgrade%s\r\nContent-Length: 0\r\n\r\n",
			fmt.Sprintf(more, protocol)); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return c, r, resp
	}
	for _, protocol := range []string{"tcp", "SPDY/3.1"} {
		mesh.Run("to "+protocol, func(t *testing.T) {
			mesh.App("catalog-1").Does(hijacks(protocol))
			c, r, resp := asked(t, protocol, "\r\nUpgrade: %s")
			if resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(resp.Header.Get("upgrade"), protocol) {
				t.Fatalf("status %d, headers %v", resp.StatusCode, resp.Header)
			}
			if _, err := io.WriteString(c, "typed\n"); err != nil {
				t.Fatal(err)
			}
			if line, err := r.ReadString('\n'); err != nil || line != "typed\n" {
				t.Errorf("heard %q (%v)", line, err)
			}
		})
	}
	mesh.Run("but not to h2c, which is answered in HTTP/1.1", func(t *testing.T) {
		_, _, resp := asked(t, "h2c", ", HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
			t.Errorf("the answer is %s %d", resp.Proto, resp.StatusCode)
		}
	})
	mesh.Run("and not to what nobody knows, which the sidecar refuses", func(t *testing.T) {
		_, _, resp := asked(t, "what-nobody-knows", "\r\nUpgrade: %s")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("status %d, want 403", resp.StatusCode)
		}
		mesh.App("catalog-1").WantRequests(0)
	})
}
