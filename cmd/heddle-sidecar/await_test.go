package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/test/transcript"
)

// answering is an agent that says one thing after the other, and then that it is ready.
func answering(t *testing.T, said ...sidecar.Status) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status := sidecar.Status{Ready: true}
		if n := int(asked.Add(1)); n <= len(said) {
			status = said[n-1]
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if err := json.NewEncoder(w).Encode(status); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/a-prefix-that-nobody-knows/readyz", asked
}

func TestTheInitContainerWaitsForItsSidecarAndSaysOnceForWhat(t *testing.T) {
	early := sidecar.Status{Reasons: []string{"there is no certificate yet", "the signer refused"}}
	url, asked := answering(t, early, early, sidecar.Status{Reasons: []string{"Envoy starts"}})
	var out transcript.Buffer
	if err := await(t.Context(), url, &out); err != nil {
		t.Fatal(err)
	}
	const want = "the application has to wait: there is no certificate yet; the signer refused\nthe application has to wait: Envoy starts\n"
	if out.String() != want || asked.Load() != 4 {
		t.Errorf("after %d questions it has said %q, want 4 and %q", asked.Load(), out.String(), want)
	}
}

func TestTheInitContainerWaitsForAnAgentThatDoesNotAnswerYet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	ctx, cancel := context.WithCancel(t.Context())
	var out transcript.Buffer
	err = await(ctx, "http://"+l.Addr().String()+"/", writerFunc(func(p []byte) (int, error) {
		cancel() // the pod is deleted while it waits
		return out.Write(p)
	}))
	if err == nil || !strings.Contains(err.Error(), "told to end before the sidecar could route") || out.String() != "the application has to wait: the agent does not answer yet\n" {
		t.Errorf("got %v, and it has said %q", err, out.String())
	}
}

func TestWhyAnAgentDoesNotAnswerIsSaidWithoutThePathThatNobodyElseKnows(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out transcript.Buffer
	err := await(ctx, s.URL+"/a-prefix-that-nobody-knows/readyz", writerFunc(func(p []byte) (int, error) {
		cancel()
		return out.Write(p)
	}))
	if err == nil || out.String() != "the application has to wait: ask the agent whether it is ready: EOF\n" {
		t.Errorf("got %v, and it has said %q", err, out.String())
	}
}

func TestAnAnswerThatIsNoneIsNotTakenForReadiness(t *testing.T) {
	for body, want := range map[string]string{"ok": "read whether the agent is ready", "{}": "does not say why"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body) // the other side goes away at the end
		}))
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var out transcript.Buffer
		err := await(ctx, s.URL, writerFunc(func(p []byte) (int, error) {
			cancel()
			return out.Write(p)
		}))
		if err == nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: got %v, and it has said %q; want %q", body, err, out.String(), want)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTheHookOfTheStartEndsWhenTheAgentListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, errs transcript.Buffer
	if code := run([]string{"started", l.Addr().String()}, &out, &errs); code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := listens(ctx, l.Addr().String()); err == nil || !strings.Contains(err.Error(), "nothing listens at "+l.Addr().String()) {
		t.Errorf("got %v", err)
	}
	if code := run([]string{"started"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "want one, the HOST:PORT") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}
