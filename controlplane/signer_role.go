package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// SignerRole is a process that signs and does nothing else: the only one that reads the CA.
type SignerRole struct {
	Signer   SignerOptions  // its Listener and Registry are set here
	Cluster  ClusterOptions // its Apart is set here
	Address  string         // where sidecars and servers get their identities
	Listen   string         // of /livez, /readyz and /metrics; empty for none
	Operator string         // path of the operator's socket; empty for none
}

// Run opens the addresses and signs until ctx ends.
func (r SignerRole) Run(ctx context.Context) error {
	l, err := net.Listen("tcp", r.Address)
	if err != nil {
		return fmt.Errorf("listening for what sidecars ask the signer: %w; choose another --signer", err)
	}
	var operator net.Listener
	if r.Operator != "" {
		if operator, err = ListenPrivate(r.Operator); err != nil {
			return err
		}
	}
	registry := prometheus.NewRegistry()
	r.Signer.Listener, r.Signer.Registry, r.Cluster.Apart = l, registry, true
	signer, err := NewClusterSigner(r.Signer, r.Cluster)
	if err != nil {
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return signer.Run(running) })
	if operator != nil {
		group.Go(func() error { return NewOperator(nil, signer).Run(running, operator) })
	}
	if r.Listen != "" {
		group.Go(func() error { return serveStatus(running, r.Listen, signer.statusHandler(registry), signer.log()) })
	}
	return group.Wait()
}

// statusHandler answers for a process that is a signer alone. One that does not lead is ready too: it takes over when it
// has to, and an update of a Deployment would wait for ever for one that must lead to be ready. So is one whose CA has
// gone, as long as it has a certificate to answer with: its Service must lead there for callers to hear why.
func (s *Signer) statusHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.server.Certified(r.Context()); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		select {
		case <-s.pods.Synced():
		default:
			http.Error(w, "not ready: the pods are not known yet, so nobody can be attested", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
		writeUnsigned(w, s.keeper.Ready())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
