package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const prefix = "0a1b2c3d-0a1b-2c3d-4e5f"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// serve runs a server at 127.0.0.1, which stands for the pod's address, until the test ends.
func serve(t *testing.T, probes map[string]Probe) (address string) {
	t.Helper()
	s := must(New(Options{
		Prefix: prefix, Probes: probes, Log: zerolog.New(zerolog.NewTestWriter(t)),
		Ready: func(context.Context) (bool, []byte) { return false, []byte(`{"reasons":["early"]}`) },
	}))
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask is the kubelet: its status, and what it is told.
func ask(t *testing.T, address, path string) (int, string) {
	t.Helper()
	r := must(http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/"+prefix+"/"+path, nil))
	r.Header.Set("User-Agent", "kube-probe/1.36")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode, string(must(io.ReadAll(answer.Body)))
}

// probeOf asks one probe, named a/liveness.
func probeOf(t *testing.T, p Probe) (int, string) {
	t.Helper()
	return ask(t, serve(t, map[string]Probe{"a/liveness": p}), "probe/a/liveness")
}

func portOf(a net.Addr) uint16 { return uint16(a.(*net.TCPAddr).Port) }

// closed is a port where nobody listens.
func closed(t *testing.T) uint16 {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return portOf(l.Addr())
}

func TestAnHTTPProbeIsPerformedAsTheKubeletWould(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/", func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/status/%d", &code)
		w.WriteHeader(code)
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		want := http.Header{"User-Agent": {"kube-probe/1.36"}, "Accept": {"*/*"}, "X-A": {"1", "2"}, "Connection": {"close"}}
		if diff := cmp.Diff(want, r.Header); diff != "" || r.Host != "example.com" || r.URL.RawQuery != "a=b" {
			t.Errorf("host %s, query %s, %s", r.Host, r.URL.RawQuery, diff)
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://example.com/", http.StatusFound)
	})
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/status/418", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	for _, server := range []*httptest.Server{plain, secure} {
		scheme, _, _ := strings.Cut(server.URL, ":")
		for path, want := range map[string]struct {
			status int
			says   string
		}{
			"/status/200":  {200, "200 OK"},
			"/status/204":  {200, "204"},
			"/status/304":  {200, "304"},
			"/status/399":  {200, "399"},
			"/status/400":  {400, "/status/400 answers 400 Bad Request"},
			"/status/500":  {500, "answers 500"},
			"/headers?a=b": {200, ""},
			"/away":        {200, "302"},
			"/here":        {418, "answers 418"},
			"/loop":        {503, "stopped after 10 redirects"},
			"/never":       {503, "deadline exceeded"},
		} {
			get := &HTTPGet{Path: path, Port: portOf(server.Listener.Addr()), Scheme: strings.ToUpper(scheme)}
			if strings.HasPrefix(path, "/headers") {
				get.HTTPHeaders = []Header{{"Host", "example.com"}, {"x-a", "1"}, {"X-A", "2"}}
				if scheme == "https" {
					continue // by HTTP/2, which has no Connection header
				}
			}
			status, body := probeOf(t, Probe{HTTPGet: get})
			if status != want.status || !strings.Contains(body, want.says) {
				t.Errorf("%s%s: %d %s, want %d and %q", scheme, path, status, body, want.status, want.says)
			}
		}
	}
	status, body := probeOf(t, Probe{HTTPGet: &HTTPGet{Path: "/", Port: closed(t)}})
	if status != 503 || !strings.Contains(body, "connection refused") {
		t.Errorf("where nobody listens: %d %s", status, body)
	}
}

func TestATCPProbeSucceedsWhereSomebodyListens(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	if status, body := probeOf(t, Probe{TCPSocket: &TCPSocket{portOf(l.Addr())}}); status != 200 {
		t.Errorf("where somebody listens: %d %s", status, body)
	}
	if status, body := probeOf(t, Probe{TCPSocket: &TCPSocket{closed(t)}}); status != 503 || !strings.Contains(body, "connection refused") {
		t.Errorf("where nobody listens: %d %s", status, body)
	}
}

func TestAnApplicationAtAnotherAddressOfThePodIsNotFound(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.2:0")) // the kubelet comes to 127.0.0.1
	defer l.Close()
	if status, body := probeOf(t, Probe{TCPSocket: &TCPSocket{portOf(l.Addr())}}); status != 503 {
		t.Errorf("%d %s", status, body)
	}
}

func TestAGRPCProbeSucceedsWhileTheServiceServes(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	server, service := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	go server.Serve(l) // until Stop
	defer server.Stop()
	service.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	service.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for name, want := range map[string]struct {
		status int
		says   string
	}{"": {200, "SERVING"}, "up": {200, "SERVING"}, "down": {503, "NOT_SERVING"}, "unknown": {503, "NotFound"}} {
		if status, body := probeOf(t, Probe{GRPC: &GRPC{Port: portOf(l.Addr()), Service: name}}); status != want.status || !strings.Contains(body, want.says) {
			t.Errorf("service %q: %d %s, want %d and %q", name, status, body, want.status, want.says)
		}
	}
	if status, body := probeOf(t, Probe{GRPC: &GRPC{Port: closed(t)}}); status != 503 {
		t.Errorf("where nobody listens: %d %s", status, body)
	}
}

func TestTheAgentsOwnReadinessComesWithItsReasons(t *testing.T) {
	if status, body := ask(t, serve(t, nil), "readyz"); status != 503 || body != `{"reasons":["early"]}` {
		t.Errorf("%d %s", status, body)
	}
}

func TestWhoDoesNotKnowThePrefixGetsNoAnswer(t *testing.T) {
	address := serve(t, map[string]Probe{"a/liveness": {TCPSocket: &TCPSocket{1}}})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + prefix[1:] + "/readyz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + prefix + "x/readyz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + prefix + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + prefix + "/probe/a/other HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + prefix + "/a/liveness HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /" + prefix + "/readyz HTTP/1.1\r\nHost: a\r\n\r\n",
		"nonsense\r\n\r\n",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n",
	} {
		c := must(net.Dial("tcp", address))
		defer c.Close()
		must(0, c.SetDeadline(time.Now().Add(30*time.Second)))
		if _, err := io.WriteString(c, text); err != nil {
			continue // it is closed already
		}
		if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("to %.60q: %q, %v", text, got, err)
		}
	}
}

func TestWhoeverOpensManyConnectionsDoesNotKeepTheKubeletOut(t *testing.T) {
	address := serve(t, nil)
	var first net.Conn
	for range maxWaiting + 20 {
		c := must(net.Dial("tcp", address))
		defer c.Close()
		if first == nil {
			first = c
		}
	}
	if status, _ := ask(t, address, "readyz"); status != 503 {
		t.Errorf("the kubelet is answered %d", status)
	}
	must(0, first.SetReadDeadline(time.Now().Add(linger/2))) // before it would be closed anyway
	if _, err := bufio.NewReader(first).ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the oldest of too many is still open: %v", err)
	}
}

func TestAPrefixThatCanBeGuessedIsRefused(t *testing.T) {
	for _, bad := range []string{"", "short", "0a1b2c3d/0a1b/2c3d/4e5f", "0a1b2c3d 0a1b 2c3d 4e5f"} {
		if _, err := New(Options{Prefix: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestProbesAreReadAsTheKubernetesAPIWritesThem(t *testing.T) {
	text := must(json.Marshal(map[string]corev1.Probe{
		"a/liveness": {TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/x?y", Port: intstr.FromInt32(80), Scheme: "HTTPS", HTTPHeaders: []corev1.HTTPHeader{{Name: "A", Value: "b"}},
		}}},
		"a/readiness": {ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(81)}}},
		"b/startup":   {ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 82, Service: new("s")}}},
		"b/preStop":   {ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/z", Port: intstr.FromInt32(83)}}},
	}))
	want := map[string]Probe{
		"a/liveness":  {TimeoutSeconds: 3, HTTPGet: &HTTPGet{"/x?y", 80, "HTTPS", []Header{{"A", "b"}}}},
		"a/readiness": {TCPSocket: &TCPSocket{81}},
		"b/startup":   {GRPC: &GRPC{82, "s"}},
		"b/preStop":   {HTTPGet: &HTTPGet{Path: "/z", Port: 83}},
	}
	if diff := cmp.Diff(want, must(Parse(string(text)))); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		`{`, `[]`, `{"a":{"tcpSocket":{"port":1}}}`, `{"a/other":{"tcpSocket":{"port":1}}}`, `{"a/liveness":{}}`,
		`{"a/liveness":{"tcpSocket":{"port":0}}}`, `{"a/liveness":{"tcpSocket":{"port":"http"}}}`, `{"a/liveness":{"tcpSocket":{"port":70000}}}`,
		`{"a/liveness":{"httpGet":{"port":1,"scheme":"ftp"}}}`, `{"a/liveness":{"tcpSocket":{"port":1},"grpc":{"port":1}}}`,
		`{"a/preStop":{"tcpSocket":{"port":1}}}`, `{"a/postStart":{"grpc":{"port":1}}}`, `{"a/prestop":{"httpGet":{"port":1}}}`,
	} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%s is taken for %v", bad, got)
		}
	}
}
