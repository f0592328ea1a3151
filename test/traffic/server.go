package traffic

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/websocket"

	"github.com/heddle-mesh/heddle/test/relay"
)

// Addresses are host:port, where an application listens or is dialled.
type Addresses struct{ HTTP, TCP string }

// hello is what applications answer.
const hello = "hello"

// Serve runs an application that speaks HTTP/1.1 and HTTP/2 on one port, and TCP on another, until the test ends. Seen is
// called for each request that it answers with a word; it may be nil.
func Serve(t testing.TB, at Addresses, seen func()) {
	t.Helper()
	l, err := net.Listen("tcp", at.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	relay.Listen(t, at.TCP, func(c net.Conn) { // sends back what comes
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if seen != nil {
			seen()
		}
		_, _ = io.WriteString(w, hello)
	})
	mux.Handle("/chat", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
	mux.HandleFunc("/stream", repeat)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close() // says what the connections said
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("application at %s: %v", at.HTTP, err)
		}
	})
}

// repeat sends back what comes, while it comes.
func repeat(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	text := make([]byte, 1024)
	for {
		n, err := r.Body.Read(text)
		_, failed := w.Write(text[:n])
		if errors.Join(failed, flush.Flush()) != nil || err != nil {
			return
		}
	}
}

// conversations are those that stay, by what they are.
func (at Addresses) conversations() map[string]func(context.Context) (io.ReadWriteCloser, error) {
	return map[string]func(context.Context) (io.ReadWriteCloser, error){
		"WebSocket": func(context.Context) (io.ReadWriteCloser, error) {
			return websocket.Dial("ws://"+at.HTTP+"/chat", "", "http://catalog")
		},
		"HTTP/2 stream": func(ctx context.Context) (io.ReadWriteCloser, error) {
			return openStream(context.WithoutCancel(ctx), "http://"+at.HTTP+"/stream")
		},
		"TCP": func(ctx context.Context) (io.ReadWriteCloser, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", at.TCP)
		},
	}
}
