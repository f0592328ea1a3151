package operator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answering runs a control plane that answers everything in one way, and gives a client of it.
func answering(t *testing.T, answer http.HandlerFunc) Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "op-") // a unix socket's path is at most 107 bytes, which t.TempDir may exceed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c := Client{Socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	server, served := &http.Server{Handler: answer}, make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return c
}

func say(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // the client says what became of it
	}
}

func TestAQuestionArrivesAsItWasAskedAndItsAnswerIsRead(t *testing.T) {
	var asked string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.Method + " " + r.URL.Path + " " + string(body)
		say(http.StatusOK, `{"id":"spiffe://cluster.local/ns/shop/sa/web","signer":{"address":"127.0.0.1:1"}}`)(w, r)
	})
	var join Join
	if err := c.Call(t.Context(), http.MethodPost, JoinPath, Ask{Pod: "shop/web"}, &join); err != nil {
		t.Fatal(err)
	}
	if want := `POST /v1/join {"pod":"shop/web"}`; asked != want {
		t.Errorf("the control plane was asked %q, want %q", asked, want)
	}
	if join.ID != "spiffe://cluster.local/ns/shop/sa/web" || join.Signer.Address != "127.0.0.1:1" {
		t.Errorf("the answer is read as %s, %+v", join.ID, join.Signer)
	}
	if err := c.Call(t.Context(), http.MethodPost, AbortPath, nil, nil); err != nil {
		t.Fatal(err)
	}
	if want := "POST /v1/abort "; asked != want {
		t.Errorf("the control plane was asked %q, want %q", asked, want)
	}
}

func TestARefusalIsAProblemWithItsCode(t *testing.T) {
	for text, want := range map[string]Problem{
		`{"code":"missing","message":"the CA is gone"}`: {"missing", "the CA is gone"},
		`{"message":"no such pod"}`:                     {"", "no such pod"},
	} {
		err := answering(t, say(http.StatusConflict, text)).Call(t.Context(), http.MethodPost, RotatePath, Rotation{}, nil)
		p, ok := errors.AsType[*Problem](err)
		if !ok || *p != want {
			t.Errorf("%s: got %v, want %+v", text, err, want)
			continue
		}
		said := p.Message
		if p.Code != "" {
			said += " (" + p.Code + ")"
		}
		if p.Error() != said {
			t.Errorf("%s reads %q, want %q", text, p, said)
		}
	}
}

func TestAnAnswerThatIsNoneSaysWhatWasAskedAndWhere(t *testing.T) {
	var facts struct{ Phase string }
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a refusal of another kind": {say(http.StatusNotFound, "404 page not found"), "for /v1/identity: 404 Not Found; it may be of another version"},
		"a refusal without words":   {say(http.StatusInternalServerError, `{"code":"x"}`), "500 Internal Server Error"},
		"no JSON":                   {say(http.StatusOK, "hello"), "invalid character"},
		"half of it":                {say(http.StatusOK, `{"phase":"ste`), "unexpected end of JSON input"},
		"a connection that breaks": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-length", "100")
			_, _ = io.WriteString(w, "{")
		}, "unexpected EOF"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(spaces{}, maxAnswer-1))
			_, _ = io.WriteString(w, "{}")
		}, "more than 67108864 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			client := answering(t, c.answer)
			err := client.Call(t.Context(), http.MethodGet, IdentityPath, nil, &facts)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), client.Socket) {
				t.Errorf("got %v, want it to name %s and say %q", err, client.Socket, c.want)
			}
			if _, ok := errors.AsType[*Problem](err); ok {
				t.Errorf("%v is taken for a refusal with a code", err)
			}
		})
	}
}

// The longest answer that is taken, beside the one above that has one byte more.
func TestALongAnswerIsReadWhole(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(spaces{}, maxAnswer-2))
		_, _ = io.WriteString(w, "{}")
	})
	if err := c.Call(t.Context(), http.MethodGet, IdentityPath, nil, &struct{}{}); err != nil {
		t.Error(err)
	}
}

// spaces are white space without end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{' '}, len(p)))
	return len(p), nil
}

func TestAControlPlaneThatIsAwaySaysHowToStartOne(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left") // by one that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "none"), left} {
		err := Client{Socket: socket}.Call(t.Context(), http.MethodGet, IdentityPath, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "no control plane answers on "+socket) ||
			!strings.Contains(err.Error(), "start one with heddle serve, or name its socket with --socket") {
			t.Errorf("%s: %v", socket, err)
		}
	}
}

func TestAQuestionThatIsGivenUpSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if err := c.Call(ctx, http.MethodGet, IdentityPath, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
