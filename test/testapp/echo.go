package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// echo is an HTTP server that always says the same, with the command line of hashicorp/http-echo. It speaks HTTP/1.1 and
// HTTP/2 in plain text. Beside it, /delay/SECONDS answers late, and each second request for /flaky, from the first one on, is
// answered with 503; /who tells the caller who it is by the certificate that the server's sidecar saw; /health/NAME is answered with 200 until
// /health/NAME/STATUS was asked for. With --tls it speaks HTTPS alone, with a certificate that it has signed itself. It ends at once when it is told
// to: connections are not drained.
func echo(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	listen := flags.String("listen", ":5678", "address and port to listen on")
	text := flags.String("text", "", "what to say")
	status := flags.Int("status-code", http.StatusOK, "status of each response")
	show := flags.Bool("show-request", false, "say what was asked, as JSON, and from where")
	secure := flags.Bool("tls", false, "speak HTTPS, with a certificate of its own making")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var config *tls.Config
	if *secure {
		var err error
		if config, err = selfSigned(); err != nil {
			return err
		}
	}
	var flaky atomic.Int64
	var told condition
	mux := http.NewServeMux()
	mux.HandleFunc("/delay/{seconds}", func(w http.ResponseWriter, r *http.Request) { late(w, r, *text) })
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, _ *http.Request) {
		if flaky.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, *text)
	})
	mux.HandleFunc("/who", who)
	mux.HandleFunc("/health/{name}", told.answer)
	mux.HandleFunc("/health/{name}/{status}", told.turn)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(*status)
		if *show {
			describe(w, r)
			return
		}
		fmt.Fprintln(w, *text) // a caller that is gone misses nothing
	})
	return serveHTTP(ctx, *listen, config, mux, out)
}

// who reads what a sidecar says of the caller's certificate: By=...;Hash=...;URI=spiffe://...
func who(w http.ResponseWriter, r *http.Request) {
	for _, part := range strings.Split(r.Header.Get("X-Forwarded-Client-Cert"), ";") {
		if id, ok := strings.CutPrefix(part, "URI="); ok {
			fmt.Fprintln(w, id)
			return
		}
	}
	fmt.Fprintln(w, "somebody")
}

// late answers after the seconds that the path names, unless the caller has gone before.
func late(w http.ResponseWriter, r *http.Request, text string) {
	seconds, err := strconv.ParseFloat(r.PathValue("seconds"), 64)
	if err != nil || seconds < 0 || seconds > 60 {
		http.Error(w, "want /delay/SECONDS, at most 60", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		fmt.Fprintln(w, text)
	case <-r.Context().Done():
	}
}

// request is what a server saw of a request.
type request struct {
	Method   string      `json:"method"`
	Path     string      `json:"path"`
	Protocol string      `json:"protocol"`
	Host     string      `json:"host"`
	From     string      `json:"from"` // address and port
	Headers  http.Header `json:"headers"`
}

func describe(w io.Writer, r *http.Request) {
	_ = json.NewEncoder(w).Encode(request{r.Method, r.URL.RequestURI(), r.Proto, r.Host, r.RemoteAddr, r.Header})
}

// serveHTTP serves until ctx ends, and closes whatever connections there are then. It speaks HTTPS if there is a configuration
// for it.
func serveHTTP(ctx context.Context, address string, config *tls.Config, handler http.Handler, out io.Writer) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	fmt.Fprintln(out, "listening on", listener.Addr())
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", address, err)
	}
	return nil
}
