package main

import (
	"context"
	"encoding/json"
	"errors"
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

// firstWords waits for the agent at a URL until it has said for what; the pod is deleted then.
func firstWords(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out transcript.Buffer
	if err := await(ctx, url, writerFunc(func(p []byte) (int, error) {
		cancel()
		return out.Write(p)
	})); !errors.Is(err, errTold) {
		t.Errorf("it ends with %v", err)
	}
	return out.String()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTheInitContainerWaitsForAnAgentThatDoesNotAnswerYet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	if said := firstWords(t, "http://"+l.Addr().String()+"/"); said != "the application has to wait: the agent does not answer yet\n" {
		t.Errorf("it has said %q", said)
	}
}

func TestWhyAnAgentDoesNotAnswerIsSaidWithoutThePathThatNobodyElseKnows(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	if said := firstWords(t, s.URL+"/a-prefix-that-nobody-knows/readyz"); said != "the application has to wait: ask the agent whether it is ready: EOF\n" {
		t.Errorf("it has said %q", said)
	}
	if said := firstWords(t, "http://a b/a-prefix-that-nobody-knows/readyz"); strings.Contains(said, "nobody-knows") || !strings.Contains(said, "invalid character") {
		t.Errorf("of a URL that is none it has said %q", said)
	}
}

func TestAnAnswerThatIsNoneIsNotTakenForReadiness(t *testing.T) {
	for body, want := range map[string]string{"ok": "read whether the agent is ready", "{}": "does not say why"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body) // the other side goes away at the end
		}))
		defer s.Close()
		if said := firstWords(t, s.URL); !strings.Contains(said, want) {
			t.Errorf("%s: it has said %q, want %q", body, said, want)
		}
	}
}

func TestTheHookOfTheStartEndsWhenTheAgentListens(t *testing.T) {
	refused, tries := errors.New("connection refused"), 0
	err := untilConnected(t.Context(), func() error {
		if tries++; tries < 4 {
			return refused
		}
		return nil
	})
	if err != nil || tries != 4 {
		t.Errorf("after %d tries: %v, want 4 and no error", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := untilConnected(ctx, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("without an agent it ends with %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for args, want := range map[string]int{l.Addr().String(): 0, "": 1, "15021": 1, "--fast": 1} {
		var out, errs transcript.Buffer
		if code := run(append([]string{"started"}, strings.Fields(args)...), &out, &errs); code != want {
			t.Errorf("started %s: exit code %d: %s", args, code, errs.String())
		}
	}
}

func TestWhoIsToldToEndWhileItWaitsHasNotFailed(t *testing.T) {
	for err, want := range map[error]int{nil: 0, errTold: 143, errors.New("a fault"): 1} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
}
