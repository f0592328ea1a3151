// Package local is a mesh on one machine: a control plane with its signer, and agents with their Envoys, in one process
// and without a cluster. The demo and tests are made of it; heddle serve --manifests is its first half.
//
// All of it is the real thing, from the CA to mutual TLS. Two things differ from a cluster: there is no API server that
// vouches for a pod, so the process hands each sidecar that it starts a token for one use; and nothing is redirected, so
// each Envoy binds loopback addresses of its own.
package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/model"
)

// Options describe a mesh. Dir and Plane's Source must be set.
type Options struct {
	// Dir is a directory of this mesh's own, where its sockets are: its path must be short.
	Dir      string
	Plane    controlplane.Options // its Door and Unredirected are set here
	CA       string               // directory of the CA; default: one in Dir
	Signer   string               // loopback address of the signer; default 127.0.0.1:0
	Sidecars string               // loopback address that sidecars dial; default 127.0.0.1:0
	Operator string               // path of the operator socket; empty: none
	Lifetime time.Duration        // of certificates; default identity.DefaultLifetime
	Tokens   time.Duration        // the life of JWT-SVIDs; default identity.DefaultTokenLifetime
	Skew     time.Duration        // how far clocks may differ; default 1 minute
	First    controlplane.FirstCA // default: a new root
	Log      zerolog.Logger
}

// Mesh is one. Make it with [New], then call Run once.
type Mesh struct {
	options  Options
	plane    *controlplane.Plane
	signer   *controlplane.Signer
	door     net.Listener
	operator net.Listener // nil: none
}

// New opens the addresses of a mesh; nothing answers before Run.
func New(o Options) (*Mesh, error) {
	if o.Plane.TrustDomain.IsZero() {
		var err error
		if o.Plane.TrustDomain, err = identity.ParseTrustDomain(controlplane.DefaultTrustDomain); err != nil {
			return nil, err
		}
	}
	if o.CA == "" {
		o.CA = filepath.Join(o.Dir, "ca")
	}
	if o.Plane.Registry == nil {
		o.Plane.Registry = prometheus.NewRegistry()
	}
	m := &Mesh{options: o}
	listener, err := listen(o.Signer)
	if err != nil {
		return nil, fmt.Errorf("listen for what sidecars ask the signer: %w", err)
	}
	if m.door, err = listen(o.Sidecars); err != nil {
		return nil, fmt.Errorf("listen for sidecars: %w", err)
	}
	if o.Operator != "" {
		if m.operator, err = controlplane.ListenPrivate(o.Operator); err != nil {
			return nil, err
		}
	}
	m.signer, err = controlplane.NewFilesSigner(controlplane.SignerOptions{
		TrustDomain: o.Plane.TrustDomain, Namespace: o.Plane.Namespace, Listener: listener, Lifetime: o.Lifetime,
		TokenLife: o.Tokens, Skew: o.Skew, First: o.First,
		Registry: o.Plane.Registry, Log: o.Log,
	}, o.CA, func(ctx context.Context, key model.Key) (*model.Pod, error) { return m.plane.Pod(ctx, key) }) // nobody asks before Run
	if err != nil {
		return nil, err
	}
	o.Plane.Unredirected, o.Plane.ConnectionAge = true, controlplane.ConnectionAge(o.Lifetime)
	m.plane = controlplane.New(m.signer.Behind(o.Plane, m.door))
	return m, nil
}

func listen(address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	return net.Listen("tcp", address)
}

// Plane is the control plane.
func (m *Mesh) Plane() *controlplane.Plane { return m.plane }

// Signer is who signs.
func (m *Mesh) Signer() *controlplane.Signer { return m.signer }

// Run runs the control plane and its signer until ctx ends.
func (m *Mesh) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return m.followBundle(running) })
	group.Go(func() error {
		return controlplane.Whole{Plane: m.plane, Signer: m.signer, Operator: m.operator}.Run(running)
	})
	return group.Wait()
}

func (m *Mesh) bundleFile() string { return filepath.Join(m.options.Dir, "bundle.json") }

// followBundle writes what sidecars trust when they start, as long as it changes.
func (m *Mesh) followBundle(ctx context.Context) error {
	for {
		bundle, changed, err := m.signer.Keeper().Bundle()
		if err == nil { // else the CA is being made
			if err := m.writeBundle(bundle); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Mesh) writeBundle(b *spiffebundle.Bundle) error {
	text, err := identity.MarshalBundle(b)
	if err != nil {
		return err
	}
	// Renamed into place: an agent must not read half of it.
	tmp := m.bundleFile() + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("write the trust bundle: %w", err)
	}
	if err := os.Rename(tmp, m.bundleFile()); err != nil {
		return fmt.Errorf("write the trust bundle: %w", err)
	}
	return nil
}
