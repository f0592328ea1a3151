package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/kube"
)

// serveStatus answers /livez, /readyz and /metrics until ctx ends.
func serveStatus(ctx context.Context, address string, h http.Handler, log zerolog.Logger) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for /livez, /readyz and /metrics: %w; choose another --listen", err)
	}
	log.Info().Stringer("address", l.Addr()).Msg("status")
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving status: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err = s.Shutdown(grace)
	<-ended
	if errors.Is(err, context.DeadlineExceeded) {
		return s.Close()
	}
	return err
}

func (p *Plane) statusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		if !p.looping.Load() { // it waits for what was saved, and a restart would not bring that sooner
			fmt.Fprintln(w, "ok")
			return
		}
		alive, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := p.call(alive, func() {}); err != nil {
			http.Error(w, "the loop does not answer: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		away := ""
		if p.options.Status != nil {
			away = absence(p.options.Status())
		}
		if !p.ready.Load() {
			http.Error(w, "not ready: the first listing of the source is not complete, or the control plane is stopping\n"+away, http.StatusServiceUnavailable)
			return
		}
		if p.options.Certified != nil {
			if err := p.options.Certified(); err != nil {
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
		if p.options.Signing != nil {
			writeUnsigned(w, p.options.Signing())
		}
		if away != "" {
			fmt.Fprintln(w, away+": what was known is served")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	return mux
}

// writeUnsigned says why nothing is signed. Who does not sign is ready all the same: it answers, and is to say why.
func writeUnsigned(w io.Writer, err error) {
	switch keep.CodeOf(err) {
	case "":
	case keep.NotLeading:
		fmt.Fprintln(w, err)
	default:
		fmt.Fprintf(w, "nothing is signed (%s): %v\n", keep.CodeOf(err), err)
	}
}

// absence says since when the source is away; empty if it is not, or was not asked for anything yet.
func absence(s kube.Status) string {
	if s.Connected || s.Since.IsZero() {
		return ""
	}
	return fmt.Sprintf("the source is away since %s (%s)", s.Since.UTC().Format(time.RFC3339), s.Reason)
}
