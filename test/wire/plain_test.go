package wire_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/wire"
)

// Envoy's own defaults are 15 s for a request, 5 min for an idle stream, and 1,024 requests, connections and waiting
// requests. None of them may be met by somebody who wrote no policy.
func TestWithoutPolicyTheMeshAddsNoLimit(t *testing.T) {
	openManyFiles(t)
	mesh := wire.Start(t, "plain")
	catalog := mesh.App("catalog-1")

	mesh.Run("to concurrency", func(t *testing.T) {
		const n = 2000
		gate := wire.NewGate()
		catalog.Does(gate.Behind)
		answers := mesh.Caller("web").Begin(n, http.MethodGet, "http://catalog:8080/")
		gate.Waited(t, n)
		gate.Open()
		if got := wire.Statuses(answers.All()); got[http.StatusOK] != n {
			t.Errorf("answers are %v, want %d times 200", got, n)
		}
	})
	mesh.Run("to TCP connections", func(t *testing.T) {
		const n = 1100
		mesh.App("ledger-1").Speaks(wire.EchoBytes)
		open := make([]*wire.Conn, n)
		for i := range open {
			open[i] = mesh.Caller("web").Dial("ledger:7000")
			open[i].WantEcho("first")
		}
		for i, c := range open {
			if !c.Echoes("again") {
				t.Fatalf("connection %d of %d is not open any more", i+1, n)
			}
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
	mesh.Run("to headers", func(*testing.T) {
		var headers []wire.Option
		for i := range 300 {
			headers = append(headers, wire.Header(fmt.Sprint("x-many-", i), strings.Repeat("v", 300)))
		}
		mesh.Get("http://catalog:8080/", headers...).WantStatus(http.StatusOK)
	})
	mesh.Run("to bodies", func(t *testing.T) {
		body := strings.Repeat("x", 5<<20)
		got := mesh.Caller("web").Do(http.MethodPost, "http://catalog:8080/", wire.Body(body))
		if n := len(got.WantStatus(http.StatusOK).Facts().Body); n != len(body) {
			t.Errorf("%d of %d bytes came back", n, len(body))
		}
	})
	mesh.Run("to tries: what fails is not repeated", func(*testing.T) {
		for _, b := range []wire.Behaviour{wire.Answer(http.StatusServiceUnavailable), wire.Reset} {
			catalog.Forget()
			catalog.Does(b)
			mesh.Get("http://catalog:8080/").WantStatus(http.StatusServiceUnavailable).WantHeader("x-heddle-failure", "")
			catalog.WantRequests(1)
		}
	})
}

// openManyFiles lets this process, and the sidecars that it starts, have as many open files as the system allows them: a
// shell's own limit is often 1,024, which is just the number that is looked for here.
func openManyFiles(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutPolicyTheMeshAddsNoTimeout(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "plain")
	// Half of the answer comes at once and the rest after 20 s, in which nothing moves; Envoy ends a request after 15.
	mesh.App("catalog-1").Does(wire.Stream(2, 20*time.Second))
	got, err := mesh.Caller("web").Try(t.Context(), http.MethodGet, "http://catalog:8080/")
	if err != nil {
		t.Fatal(err)
	}
	got.WantStatus(http.StatusOK).WantTook(20*time.Second, 30*time.Second)
}

// Envoy ends a stream that stands still after 5 minutes, which package test/idle waits for, and a connection after an hour,
// which is longer than a test may take. So this one looks at what the sidecars are told. That idle timeouts work as told is
// shown by TestTimeoutsEndWhatTakesTooLong.
func TestNoIdleTimeoutOfEnvoysOwnIsLeft(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	for _, pod := range []string{"web", "store-1"} {
		dump, err := mesh.Sidecar(pod).Get(t.Context(), "/config_dump")
		if err != nil {
			t.Fatal(err)
		}
		var config any
		if err := json.Unmarshal(dump, &config); err != nil {
			t.Fatal(err)
		}
		found := 0
		each(config, func(message map[string]any) {
			switch kind, _ := message["@type"].(string); {
			case strings.HasSuffix(kind, ".HttpConnectionManager"):
				found++
				common, _ := message["common_http_protocol_options"].(map[string]any)
				if message["stream_idle_timeout"] != "0s" || common["idle_timeout"] != "0s" {
					t.Errorf("%s: listener %v has idle timeouts %v and %v, want none", pod, message["stat_prefix"],
						message["stream_idle_timeout"], common["idle_timeout"])
				}
			case strings.HasSuffix(kind, ".TcpProxy"):
				found++
				if message["idle_timeout"] != "0s" {
					t.Errorf("%s: listener %v has idle timeout %v, want none", pod, message["stat_prefix"], message["idle_timeout"])
				}
			}
		})
		if found < 8 {
			t.Errorf("%s: found %d listeners", pod, found)
		}
	}
}

// each calls f with every object in a JSON value.
func each(value any, f func(map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		f(v)
		for _, inner := range v {
			each(inner, f)
		}
	case []any:
		for _, inner := range v {
			each(inner, f)
		}
	}
}

func TestServicesMayHavePodsWithAndWithoutSidecars(t *testing.T) {
	mesh := wire.Start(t, "plain")
	web := mesh.Caller("web")

	pods := wire.Pods(web.Times(20, "http://mixed:8080/"))
	if pods["mixed-1"]+pods["mixed-2"] != 20 || len(pods) != 2 {
		t.Errorf("answers came from %v, want both pods", pods)
	}
	wantProto(t, web.Get("http://mixed:8080/"), "HTTP/1.1")
	wantProto(t, web.HTTP2().Get("http://mixed:8080/"), "HTTP/2.0")
	for _, app := range mesh.Apps("mixed") {
		app.Does(wire.WebSocket)
	}
	for range 6 {
		wantMessage(t, dialWebSocket(t, web, "mixed:8080"), "hello")
	}
}

func TestRequestsArriveAsTheyWereSent(t *testing.T) {
	mesh := wire.Start(t, "plain")
	web := mesh.Caller("web")

	mesh.Run("with their path", func(t *testing.T) {
		for _, path := range []string{"/", "/a//b", "/a%2Fb;v=1", "/a%5Cb", "/?q=%20&q=2&r=/../%41", "/ü", "/a/b/"} {
			sent := web.Get("http://catalog:8080" + path).WantStatus(http.StatusOK).Facts().Path
			want := strings.ReplaceAll(path, "ü", "%C3%BC") // as Go sends it
			if sent != want {
				t.Errorf("%s arrives as %s", want, sent)
			}
		}
	})
	mesh.Run("or one that RFC 3986 makes the same", func(t *testing.T) {
		if sent := web.Get("http://catalog:8080/a/./b/../%41?q").WantStatus(http.StatusOK).Facts().Path; sent != "/a/A?q" {
			t.Errorf("/a/./b/../%%41?q arrives as %s, want /a/A?q", sent)
		}
	})
	mesh.Run("with their host", func(t *testing.T) {
		for _, host := range []string{"catalog", "catalog:8080", "www.example.com", "catalog.shop.svc.cluster.local:1234"} {
			if got := web.Get("http://catalog:8080/", wire.Header("host", host)).WantStatus(http.StatusOK).Facts().Host; got != host {
				t.Errorf("host %s arrives as %s", host, got)
			}
		}
	})
	mesh.Run("with their headers and few others", func(t *testing.T) {
		got := web.Get("http://catalog:8080/", wire.Header("x-custom", "1"), wire.Header("x-forwarded-for", "1.2.3.4"),
			wire.Header("user-agent", "me"), wire.Header("x-envoy-retry-on", "5xx"), wire.Header("x-envoy-original-path", "/admin"),
			wire.Header("x-heddle-protocol", "h2"), wire.Header("x-forwarded-client-cert", "By=me")).WantStatus(http.StatusOK)
		seen := got.Facts().Header
		for name, want := range map[string]string{"X-Custom": "1", "X-Forwarded-For": "1.2.3.4", "User-Agent": "me"} {
			if v := seen.Get(name); v != want {
				t.Errorf("%s arrives as %q, want %q", name, v, want)
			}
		}
		wantCaller(t, seen.Get("X-Forwarded-Client-Cert"))
		known := []string{"X-Custom", "X-Forwarded-For", "User-Agent", "X-Request-Id", "X-Forwarded-Proto", "Accept-Encoding", "X-Forwarded-Client-Cert"}
		for name := range seen {
			if !slices.Contains(known, name) {
				t.Errorf("the application sees %s: %s", name, seen.Get(name))
			}
		}
		known = []string{"Content-Type", "X-App", "Date", "Content-Length"}
		for name := range got.Header {
			if !slices.Contains(known, name) {
				t.Errorf("the caller sees %s: %s", name, got.Header.Get(name))
			}
		}
	})
	mesh.Run("and the same to a pod without a sidecar", func(t *testing.T) {
		got := web.Get("http://outside:8080/a//b", wire.Header("host", "any"), wire.Header("x-envoy-retry-on", "5xx")).
			WantStatus(http.StatusOK).Facts()
		if got.Path != "/a//b" || got.Host != "any" || got.Proto != "HTTP/1.1" || got.Header.Get("x-envoy-retry-on") != "" {
			t.Errorf("it sees %+v", got)
		}
		for name := range got.Header {
			if strings.HasPrefix(name, "X-Heddle") || strings.HasPrefix(name, "X-Envoy") {
				t.Errorf("it sees %s: %s", name, got.Header.Get(name))
			}
		}
	})
}

// wantCaller wants the application to be told who called, by the caller's certificate and not by the caller.
func wantCaller(t *testing.T, told string) {
	t.Helper()
	if !strings.HasSuffix(told, ";URI=spiffe://cluster.local/ns/shop/sa/web") || strings.Contains(told, "By=me") {
		t.Errorf("the application is told that %q called", told)
	}
}
