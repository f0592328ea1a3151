package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/bounded"
)

const (
	// maxWebBody bounds what a caller sends, in bytes: an object of the API server's is at most 3 MiB, and an admission
	// review of an update holds two.
	maxWebBody = 8 << 20
	// An API server has a connection for each review under way and keeps 25 that are idle; by default it works at 600
	// requests at once, most of them reads. So it does not come near what an address may have, and strangers at one
	// address leave it room.
	maxWebPerAddress  = 512
	maxWebConnections = 20_000
)

// serveHTTPS answers on l until ctx ends, and closes it. Requests that are under way then have a few seconds to end.
func serveHTTPS(ctx context.Context, l net.Listener, h http.Handler, config *tls.Config, log zerolog.Logger) error {
	s := &http.Server{
		Handler:           http.MaxBytesHandler(h, maxWebBody),
		TLSConfig:         config,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
		ReadHeaderTimeout: 5 * time.Second, // for the handshake too
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          stdlog.New(httpLines{log}, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ServeTLS(bounded.Listener(l, maxWebPerAddress, maxWebConnections), "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTPS on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	<-ended
	if errors.Is(err, context.DeadlineExceeded) {
		return s.Close()
	}
	return err
}

// httpLines brings net/http's own lines into ours. They name addresses and TLS alerts, never content.
type httpLines struct{ log zerolog.Logger }

func (h httpLines) Write(line []byte) (int, error) {
	h.log.Debug().Str("library", "net/http").Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}
