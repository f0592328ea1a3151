package probe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tell is the kubelet that runs a hook: an error is what it takes for a failure, and nothing else is.
func tell(ctx context.Context, address, name string) error {
	r := must(http.NewRequestWithContext(ctx, "GET", "http://"+address+"/"+prefix+"/probe/"+name, nil))
	r.Header.Set("User-Agent", "kube-lifecycle/1.36")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// heard is an application that keeps what it is asked.
func heard(asked chan<- *http.Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.WriteHeader(http.StatusInternalServerError) // nobody looks at it
	})
}

func TestAHookArrivesAsTheKubeletWouldSendItAndAnyAnswerIsGood(t *testing.T) {
	asked := make(chan *http.Request, 1)
	plain, secure := httptest.NewServer(heard(asked)), httptest.NewTLSServer(heard(asked))
	defer plain.Close()
	defer secure.Close()
	for scheme, server := range map[string]*httptest.Server{"HTTP": plain, "HTTPS": secure} {
		hook := Probe{HTTPGet: &HTTPGet{"/warm?all=1", portOf(server.Listener.Addr()), scheme, []Header{{"Host", "web.example"}, {"X-A", "1"}, {"Authorization", "Basic x"}}}}
		for _, kind := range []string{PreStop, PostStart} {
			if err := tell(t.Context(), serve(t, map[string]Probe{"a/" + kind: hook}), "a/"+kind); err != nil {
				t.Errorf("%s by %s: %v", kind, scheme, err)
				continue
			}
			r := <-asked
			want := http.Header{"User-Agent": {"kube-lifecycle/1.36"}, "Accept": {"*/*"}, "X-A": {"1"}, "Authorization": {"Basic x"}, "Connection": {"close"}}
			if diff := cmp.Diff(want, r.Header); diff != "" || r.Host != "web.example" || r.URL.String() != "/warm?all=1" || (r.TLS != nil) != (scheme == "HTTPS") {
				t.Errorf("%s by %s: host %s, %s, %s", kind, scheme, r.Host, r.URL, diff)
			}
		}
	}
}

func TestAHookByHTTPSReachesWhatSpeaksHTTPWithoutItsCredentials(t *testing.T) {
	asked := make(chan *http.Request, 1)
	plain := httptest.NewServer(heard(asked))
	defer plain.Close()
	hook := Probe{HTTPGet: &HTTPGet{"/warm", portOf(plain.Listener.Addr()), "HTTPS", []Header{{"Authorization", "Basic x"}, {"X-A", "1"}}}}
	if err := tell(t.Context(), serve(t, map[string]Probe{"a/preStop": hook}), "a/preStop"); err != nil {
		t.Fatal(err)
	}
	if r := <-asked; r.TLS != nil || r.Header.Get("Authorization") != "" || r.Header.Get("X-A") != "1" {
		t.Errorf("TLS %v, %v", r.TLS != nil, r.Header)
	}
}

// An answer of any status would be a success to the kubelet.
func TestAHookThatFailsGetsNoAnswer(t *testing.T) {
	hook := Probe{HTTPGet: &HTTPGet{Path: "/", Port: closed(t)}}
	if err := tell(t.Context(), serve(t, map[string]Probe{"a/postStart": hook}), "a/postStart"); !errors.Is(err, io.EOF) {
		t.Errorf("where nobody listens: %v", err)
	}
}

func TestAHookMayTakeLongerThanAProbe(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/drain" {
			close(entered)
			<-release
			return
		}
		<-r.Context().Done()
	}))
	defer app.Close()
	port := portOf(app.Listener.Addr())
	address := serve(t, map[string]Probe{
		"a/preStop": {HTTPGet: &HTTPGet{Path: "/drain", Port: port}}, "a/liveness": {HTTPGet: &HTTPGet{Path: "/never", Port: port}},
	})
	told := make(chan error, 1)
	go func() { told <- tell(t.Context(), address, "a/preStop") }()
	<-entered
	// A probe that begins later is given up meanwhile.
	if status, body := ask(t, address, "probe/a/liveness"); status != http.StatusServiceUnavailable {
		t.Errorf("the probe: %d %s", status, body)
	}
	close(release)
	if err := <-told; err != nil {
		t.Errorf("the hook: %v", err)
	}
}

func TestAHookEndsWithTheKubeletThatAskedForIt(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))
	defer app.Close()
	address := serve(t, map[string]Probe{"a/preStop": {HTTPGet: &HTTPGet{Path: "/drain", Port: portOf(app.Listener.Addr())}}})
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan error, 1)
	go func() { told <- tell(ctx, address, "a/preStop") }()
	<-entered
	stop()
	if err := <-told; !errors.Is(err, context.Canceled) {
		t.Errorf("the kubelet has %v", err)
	}
	<-left
}
