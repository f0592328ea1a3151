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
	"github.com/heddle-mesh/heddle/sidecar/probe"
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
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return a.status(ctx)
}

// awaitReady is Status as soon as the agent is ready, or when ctx is done. What does not pass by waiting is said at once.
func (a *Agent) awaitReady(ctx context.Context) Status {
	a.held.Wait(ctx)
	return a.status(ctx)
}

// status waits for Envoy until ctx is done.
func (a *Agent) status(ctx context.Context) Status {
	c, b, _ := a.held.Current()
	s := Status{ID: a.o.ID.String(), Refusals: a.sds.Refused(), Reasons: a.held.Faults()}
	if b != nil {
		s.Bundle, s.Taken = identity.Fingerprint(b), a.sds.Taken(bootstrap.BundleSecret)
	}
	select {
	case <-a.prepared:
	default:
		if a.o.Preparing != "" {
			s.Reasons = append(s.Reasons, a.o.Preparing)
		}
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
	if a.o.Kubelet.Prefix != "" {
		return a.serveKubelet()
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

// answerKubelet waits for what the kubelet waits for, rather than have it come again after a whole period of its probe.
func (a *Agent) answerKubelet(ctx context.Context) Status {
	if a.o.Kubelet.Patience == 0 {
		return a.Status(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, a.o.Kubelet.Patience)
	defer cancel()
	return a.awaitReady(ctx)
}

// serveKubelet answers at an address that everybody reaches, but only who knows the prefix.
func (a *Agent) serveKubelet() (func(context.Context) error, error) {
	s, err := probe.New(probe.Options{
		Prefix: a.o.Kubelet.Prefix, Probes: a.o.Kubelet.Probes, Sources: a.o.Kubelet.Sources, Log: a.o.Log,
		Ready: func(ctx context.Context) (bool, []byte) {
			s := a.answerKubelet(ctx)
			text, err := json.Marshal(s)
			if err != nil {
				return false, []byte(err.Error())
			}
			return s.Ready, append(text, '\n')
		},
	})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", a.o.Ready) // a port alone: of both families, where there are both
	if err != nil {
		return nil, fmt.Errorf("listen for the kubelet: %w", err)
	}
	return func(ctx context.Context) error { return s.Serve(ctx, l) }, nil
}

func listenReady(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, 0o600)
	}
	// The answer is for the kubelet's probe, which runs a command in the container, and for who is in the pod.
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen for readiness on %q: want a loopback address with a port, or unix:PATH; another one goes with HEDDLE_PROBE_PREFIX, which keeps others out", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for readiness: %w", err)
	}
	return l, nil
}
