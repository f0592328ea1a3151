package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
)

// SidecarOptions describe a sidecar of this mesh.
type SidecarOptions struct {
	Pod model.Key
	// Envoy runs with the bootstrap's ID, Server and SDS set here. Without a Binary there is none, and the agent alone
	// serves.
	Envoy       envoy.Options
	WorkloadAPI string // path of a socket; empty: none
	Relay       string // path of a socket for proxyless gRPC clients; empty: none
	// Join gives a join token for the pod, whenever the sidecar has no certificate that is valid; default: [Mesh.Join].
	Join func(context.Context) (sidecar.Token, error)
	Log  zerolog.Logger
}

// Sidecar is an agent with its Envoy. Make it with [Mesh.Sidecar], then call Run once.
type Sidecar struct {
	*envoy.Proxy // nil without one
	agent        *sidecar.Agent
	dir          string
}

// Sidecar prepares a sidecar for a pod, which the control plane must know: it waits for the first listing.
func (m *Mesh) Sidecar(ctx context.Context, o SidecarOptions) (*Sidecar, error) {
	pod, err := m.plane.Pod(ctx, o.Pod)
	if err != nil {
		return nil, err
	}
	id, err := identity.ID(m.signer.ID().TrustDomain(), pod.Key.Namespace, pod.ServiceAccount)
	if err != nil {
		return nil, err
	}
	if o.Join == nil {
		o.Join = func(ctx context.Context) (sidecar.Token, error) { return m.Join(ctx, o.Pod) }
	}
	s := &Sidecar{}
	if s.dir, err = os.MkdirTemp(m.options.Dir, "sc-"); err != nil {
		return nil, fmt.Errorf("make a directory for the sidecar of %s: %w", o.Pod, err)
	}
	address := m.door.Addr().String()
	options := sidecar.Options{
		ID: id, BundleFile: m.bundleFile(), Join: o.Join, SDS: filepath.Join(s.dir, "sds"),
		Connect: func(t sidecar.Trust) sidecar.Signer {
			return client.New(client.Options{Address: m.signer.Address(), Signer: m.signer.ID(), Bundle: t.Bundle, Certificate: t.Certificate})
		},
		WorkloadAPI: o.WorkloadAPI, Log: o.Log,
	}
	if o.Relay != "" {
		options.Relay = sidecar.RelayOptions{
			Socket: o.Relay, Address: address, ControlPlane: m.signer.ServerID(), Node: o.Pod.String(),
		}
	}
	if o.Envoy.Binary != "" {
		b := &o.Envoy.Bootstrap
		b.ID, b.SDS = o.Pod.String(), options.SDS
		b.Server = bootstrap.Server{Address: address, ID: m.signer.ServerID().String()}
		s.Proxy = envoy.New(o.Envoy)
		options.Proxy = s.Proxy
	}
	s.agent, err = sidecar.New(options)
	return s, err
}

// Join gives a join token for a pod, which the control plane must know.
func (m *Mesh) Join(ctx context.Context, key model.Key) (sidecar.Token, error) {
	pod, err := m.plane.Pod(ctx, key)
	if err != nil {
		return sidecar.Token{}, err
	}
	token, err := m.signer.Join(pod)
	return sidecar.NewToken(token), err
}

// Run runs the agent and its Envoy until ctx ends, and leaves no file behind.
func (s *Sidecar) Run(ctx context.Context) error {
	defer os.RemoveAll(s.dir)
	return s.agent.Run(ctx)
}
