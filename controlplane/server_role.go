package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/kube/leader"
	"github.com/heddle-mesh/heddle/kube/webhooks"
)

// ServerOptions say what a server serves, and whom it asks for its identity. All are required.
type ServerOptions struct {
	Plane      Options              // its Door, Certified and ConnectionAge are set here
	Client     kubernetes.Interface // for webhook configurations and the Lease
	Identity   string               // of this process among the replicas: its pod's name
	Sidecars   string               // address where sidecars get their configuration
	Signer     string               // host:port of the signer
	TokenFile  string               // with a token of this pod for the signer
	BundleFile string               // with the trust bundle to start with
	Webhooks   string               // address where the API server asks
	Lifetime   time.Duration        // of certificates, as the signer is set; default identity.DefaultLifetime
}

// Additions are what else a server does.
type Additions struct {
	Webhooks http.Handler                  // answers the API server; nil: nobody does
	API      string                        // loopback address where the command line asks; empty for none
	Leads    []func(context.Context)       // done by the one replica that leads, while it does
	Runs     []func(context.Context) error // done by every replica until it ends
}

// Server is a process of the control plane that does not sign: it configures sidecars and answers the API server, and
// gets its own identity from the signer as sidecars do.
type Server struct {
	options ServerOptions
	own     *own
	trust   *webhooks.Trust
	plane   *Plane
}

// NewServer prepares one; nothing runs before Run.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Plane.Namespace == "" {
		o.Plane.Namespace = DefaultNamespace
	}
	if o.Plane.Registry == nil {
		o.Plane.Registry = prometheus.NewRegistry()
	}
	s := &Server{options: o}
	s.trust = webhooks.New(webhooks.Options{
		Client: o.Client, Log: o.Plane.Log.With().Str("component", "webhooks").Logger(),
		CA: func() ([]byte, <-chan struct{}) {
			text, _, changed := s.own.anchors()
			return text, changed
		},
	})
	var err error
	s.own, err = newOwn(ownOptions{
		TrustDomain: o.Plane.TrustDomain, Namespace: o.Plane.Namespace, Signer: o.Signer, TokenFile: o.TokenFile, BundleFile: o.BundleFile,
		InUse:    func(w *own) hold.InUse { return carried{w, s.trust} },
		Lifetime: o.Lifetime, Registry: o.Plane.Registry, Log: o.Plane.Log,
	})
	if err != nil {
		return nil, err
	}
	door, err := net.Listen("tcp", o.Sidecars)
	if err != nil {
		return nil, fmt.Errorf("listening for sidecars: %w; choose another --sidecars", err)
	}
	o.Plane.Door = Door{Listener: door, TLS: s.own.door()}
	o.Plane.Certified, o.Plane.ConnectionAge = s.own.ready, ConnectionAge(o.Lifetime)
	s.plane = New(o.Plane)
	return s, nil
}

// carried says of this server's bundle that it is in use when the API server goes by it too. Its own door does at once.
type carried struct {
	own   *own
	trust *webhooks.Trust
}

func (c carried) Bundle() string {
	text, fingerprint, _ := c.own.anchors()
	if text == nil || !c.trust.Carries(text) {
		return ""
	}
	return fingerprint
}

func (c carried) Certificate() string {
	held, _, _ := c.own.holder.Current()
	if held == nil {
		return ""
	}
	return held.Version()
}

func (c carried) Changed() <-chan struct{} { return c.trust.Changed() }

// Plane is what configures sidecars.
func (s *Server) Plane() *Plane { return s.plane }

// Run serves until ctx ends. The identity ends last: streams that drain are still under it.
func (s *Server) Run(ctx context.Context, a Additions) error {
	elector, err := leader.New(leader.Options{
		Leases: s.options.Client.CoordinationV1(), Namespace: s.options.Plane.Namespace, Name: leader.Writer,
		Identity: s.options.Identity, Log: s.options.Plane.Log,
	})
	if err != nil {
		return err
	}
	var asked, commands net.Listener
	if a.Webhooks != nil {
		if asked, err = net.Listen("tcp", s.options.Webhooks); err != nil {
			return fmt.Errorf("listening for what the API server asks: %w; choose another --webhooks", err)
		}
	}
	if a.API != "" {
		if commands, err = net.Listen("tcp", a.API); err != nil {
			return fmt.Errorf("listening for the command line: %w; choose another --api", err)
		}
	}
	holding, release := context.WithCancel(kube.LogLibrary(context.WithoutCancel(ctx), s.options.Plane.Log))
	defer release()
	group, running := errgroup.WithContext(holding)
	serving, end := context.WithCancel(running)
	defer end()
	defer context.AfterFunc(ctx, end)()
	group.Go(func() error { return s.own.holder.Run(running) })
	group.Go(func() error { return s.trust.Run(serving) })
	group.Go(func() error { return elector.Run(serving, append(a.Leads, s.trust.Write)...) })
	if commands != nil {
		group.Go(func() error { return s.plane.ServeAPI(serving, s.api(commands)) })
	}
	if asked != nil {
		group.Go(func() error { return serveHTTPS(serving, asked, a.Webhooks, s.own.named(), s.options.Plane.Log) })
	}
	for _, run := range a.Runs {
		group.Go(func() error { return run(serving) })
	}
	group.Go(func() error {
		defer release()
		return s.plane.Run(serving)
	})
	return group.Wait()
}

// api answers the command line with this server's certificate and the signer's facts.
func (s *Server) api(l net.Listener) API {
	return API{
		Listener: l, Certificate: s.own.certificate, Reviews: s.options.Client.AuthenticationV1().TokenReviews(),
		Identity: func(ctx context.Context) (any, error) { return s.own.facts(ctx) },
	}
}
