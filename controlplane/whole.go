package controlplane

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

// Whole is a control plane with its signer, in one process.
type Whole struct {
	Plane    *Plane
	Signer   *Signer
	Operator net.Listener // of the operator's socket; nil: there is none
	API      *API         // for the command line; nil: there is none
}

// Run runs all of it until ctx ends. The signer ends last: a sidecar that is sent away may need it to come back.
func (w Whole) Run(ctx context.Context) error {
	signing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(signing)
	group.Go(func() error { return w.Signer.Run(running) })
	if w.Operator != nil {
		group.Go(func() error { return NewOperator(w.Plane, w.Signer).Run(running, w.Operator) })
	}
	if w.API != nil {
		group.Go(func() error { return w.Plane.ServeAPI(running, *w.API) })
	}
	group.Go(func() error {
		defer stop()
		serving, end := context.WithCancel(running)
		defer end()
		defer context.AfterFunc(ctx, end)()
		return w.Plane.Run(serving)
	})
	return group.Wait()
}

// Replica is what one process does in a cluster.
type Replica struct {
	Plane    Options              // its Door is set here
	Client   kubernetes.Interface // see ClusterOptions
	CA       kubernetes.Interface // the same
	Identity string               // among the replicas: the pod's name
	Sidecars string               // address where sidecars get their configuration
	Signer   string               // address where they get their identities
	Operator string               // path of the operator's socket
	API      string               // loopback address where the command line asks; empty for none
	Lifetime time.Duration        // of certificates
	First    FirstCA              // default: a new root
}

// Run opens the addresses and serves until ctx ends.
func (r Replica) Run(ctx context.Context) error {
	if r.Plane.Registry == nil {
		r.Plane.Registry = prometheus.NewRegistry()
	}
	signing, err := net.Listen("tcp", r.Signer)
	if err != nil {
		return fmt.Errorf("listening for what sidecars ask the signer: %w; choose another --signer", err)
	}
	door, err := net.Listen("tcp", r.Sidecars)
	if err != nil {
		return fmt.Errorf("listening for sidecars: %w; choose another --sidecars", err)
	}
	operator, err := ListenPrivate(r.Operator)
	if err != nil {
		return err
	}
	signer, err := NewClusterSigner(SignerOptions{
		TrustDomain: r.Plane.TrustDomain, Namespace: r.Plane.Namespace, Listener: signing, Lifetime: r.Lifetime, First: r.First,
		Registry: r.Plane.Registry, Log: r.Plane.Log,
	}, ClusterOptions{Client: r.Client, CA: r.CA, Identity: r.Identity})
	if err != nil {
		return err
	}
	r.Plane.ConnectionAge = ConnectionAge(r.Lifetime)
	r.Plane = signer.Behind(r.Plane, door)
	asked, err := r.api(signer)
	if err != nil {
		return err
	}
	return Whole{Plane: New(r.Plane), Signer: signer, Operator: operator, API: asked}.Run(ctx)
}

// api opens the address where the command line asks.
func (r Replica) api(signer *Signer) (*API, error) {
	if r.API == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", r.API)
	if err != nil {
		return nil, fmt.Errorf("listening for the command line: %w; choose another --api", err)
	}
	return signer.API(l, r.Client.AuthenticationV1().TokenReviews()), nil
}
