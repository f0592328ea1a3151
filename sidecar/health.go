package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

// Status is what /readyz answers with.
type Status struct {
	Ready    bool           `json:"ready"`
	Reasons  []string       `json:"reasons,omitempty"` // why not, or what does not work though it is
	ID       string         `json:"id"`
	Expires  *time.Time     `json:"expires,omitempty"` // of the certificate
	Bundle   string         `json:"bundle,omitempty"`  // fingerprint of the trust bundle
	Taken    string         `json:"taken,omitempty"`   // of the one that Envoy has in use
	Refusals map[string]int `json:"refusals,omitempty"`
}

// Status says how it is now. The agent is ready while its certificate is valid and Envoy serves.
func (a *Agent) Status(ctx context.Context) Status {
	c, b, _ := a.held.Current()
	s := Status{ID: a.o.ID.String(), Refusals: a.sds.Refused(), Reasons: a.held.Faults()}
	if b != nil {
		s.Bundle, s.Taken = identity.Fingerprint(b), a.sds.Taken(bootstrap.BundleSecret)
	}
	switch {
	case c == nil:
		s.Reasons = append(s.Reasons, "there is no certificate yet")
		return s
	case time.Until(c.Expires()) <= 0:
		s.Reasons = append(s.Reasons, "the certificate has expired")
	default:
		s.Ready = true
	}
	expires := c.Expires()
	s.Expires = &expires
	if a.o.Proxy != nil {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := a.o.Proxy.Ready(ctx); err != nil {
			s.Ready = false
			s.Reasons = append(s.Reasons, err.Error())
		}
	}
	return s
}

func (a *Agent) serveReady() (func(context.Context) error, error) {
	if a.o.Ready == "" {
		return nothing, nil
	}
	l, err := listenReady(a.o.Ready)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		s := a.Status(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if !s.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if err := json.NewEncoder(w).Encode(s); err != nil {
			a.o.Log.Debug().Err(err).Msg("who asked for readiness went away")
		}
	})
	server := &http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	return func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { server.Close() })()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve readiness on %s: %w", a.o.Ready, err)
		}
		return nil
	}, nil
}

func listenReady(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, 0o600)
	}
	// The answer is for the kubelet's probe, which runs a command in the container, and for who is in the pod.
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen for readiness on %q: want a loopback address with a port, or unix:PATH", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for readiness: %w", err)
	}
	return l, nil
}
