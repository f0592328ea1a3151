package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar/probe"
	"github.com/heddle-mesh/heddle/sidecar/relay"
	"github.com/heddle-mesh/heddle/sidecar/sds"
	"github.com/heddle-mesh/heddle/sidecar/workloadapi"
)

// Signer is what the agent asks of the control plane; identity/client has the real one.
type Signer interface {
	hold.Signer
	JWT(ctx context.Context, audience []string) (string, error)
}

// Trust is what a connection to the signer is made with.
type Trust = hold.Trust

// Token is something to show to the signer that cannot be printed.
type Token = hold.Token

// NewToken makes one.
func NewToken(value string) Token { return hold.NewToken(value) }

// Proxy is the Envoy to run; sidecar/envoy has the real one.
type Proxy interface {
	// Run returns nil when ctx ended it, and why if it ended by itself.
	Run(ctx context.Context) error
	// Ready returns nil when it serves, and why not when ctx ends before.
	Ready(ctx context.Context) error
}

// Options describe an agent. ID, BundleFile, SDS and one of the tokens must be set, and Connect.
type Options struct {
	ID         spiffeid.ID // whose certificate it is; another one is refused
	BundleFile string      // SPIFFE trust bundle to start with. Later ones in it serve to dial the signer only

	TokenFile string // with the token that is shown at each attempt; read each time, since it rotates
	// Join gives a join token, at each attempt without a certificate that is valid: for the first one, and when one has
	// expired because nobody renewed it. One that is valid renews itself. It is called by one goroutine.
	Join func(context.Context) (Token, error)

	Connect func(Trust) Signer // gives the signer, to be asked with what the agent trusts and shows

	// Prepare is called once, when sockets are open. Nothing is asked of the signer before it returns; its error ends the
	// agent. nil: there is nothing to prepare. Preparing is what is said meanwhile.
	Prepare   func(context.Context) error
	Preparing string

	Proxy        Proxy       // nil: none is run
	SDS          string      // path of Envoy's socket, in a directory that nobody else can enter
	WorkloadAPI  string      // path of the applications' socket; empty: none
	WorkloadMode fs.FileMode // of that socket; default 0600
	Relay        RelayOptions
	Ready        string // host:port, or unix:PATH, that answers /readyz; empty: none. Without Kubelet on loopback only
	Kubelet      KubeletOptions

	Log zerolog.Logger
}

// RelayOptions describe the way of proxyless applications to the control plane. Without a Socket there is none.
type RelayOptions struct {
	Socket       string      // path
	Mode         fs.FileMode // of the socket; default 0600
	Address      string      // of the control plane, host:port
	ControlPlane spiffeid.ID // the only one that it may be
	Node         string      // node ID, namespace/pod, in the bootstrap that is written beside the socket
	Region, Zone string
}

// KubeletOptions describe what a kubelet asks at the address Ready. Without a Prefix it asks nothing.
type KubeletOptions struct {
	Prefix  string                 // first part of every path, that nobody else knows; then /readyz is under it as well
	Probes  map[string]probe.Probe // of the pod's applications
	Sources probe.Sources          // where these are asked from

	// Patience is how long the answer of /readyz may wait for the agent to be ready; 0: a second, for Envoy alone. It must be
	// less than the timeout of the kubelet's probe.
	Patience time.Duration
}

// BootstrapName is the name of gRPC's bootstrap file, in the directory of the relay's socket.
const BootstrapName = "grpc-bootstrap.json"

// Agent is one. Make it with [New], then call Run once.
type Agent struct {
	o        Options
	held     *hold.Holder
	signer   Signer
	sds      *sds.Server
	prepared chan struct{} // closed when it is
}

// New gives an agent that does nothing yet.
func New(o Options) (*Agent, error) {
	if o.SDS == "" {
		return nil, errors.New("make the agent: no path for the socket with Envoy's secrets is given")
	}
	a := &Agent{o: o, sds: sds.New(sds.Options{Names: secretNames(), Log: o.Log}), prepared: make(chan struct{})}
	holding := hold.Options{
		ID: o.ID, BundleFile: o.BundleFile, TokenFile: o.TokenFile, Join: o.Join, Publish: a.publish, Log: o.Log,
		Connect: func(t hold.Trust) hold.Signer {
			a.signer = o.Connect(t)
			return a.signer
		},
	}
	if o.Proxy != nil {
		holding.InUse = taken{a.sds}
	}
	var err error
	if a.held, err = hold.New(holding); err != nil {
		return nil, fmt.Errorf("make the agent: %w", err)
	}
	return a, nil
}

// taken is what Envoy has accepted.
type taken struct{ sds *sds.Server }

func (t taken) Bundle() string           { return t.sds.Taken(bootstrap.BundleSecret) }
func (t taken) Certificate() string      { return t.sds.Taken(bootstrap.CertificateSecret) }
func (t taken) Changed() <-chan struct{} { return t.sds.Changed() }

// publish gives Envoy what is new.
func (a *Agent) publish(c *hold.Certificate, b *spiffebundle.Bundle) error {
	secrets, err := envoySecrets(c, b)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := a.sds.Set(s.version, s.secret); err != nil {
			return err
		}
	}
	return nil
}

// Run serves until ctx is done, and then until Envoy has ended. Sockets are open when nothing else has happened yet;
// who asks before there is an identity waits.
func (a *Agent) Run(ctx context.Context) error {
	// What serves must outlive Envoy, which may drain for a while when ctx is done.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	start := func(run func(context.Context) error, err error) {
		group.Go(func() error {
			if err != nil {
				return err
			}
			return run(serving)
		})
	}
	start(a.serveSDS())
	start(a.serveWorkloadAPI())
	start(a.serveRelay())
	start(a.serveReady())
	start(a.hold, nil)
	group.Go(func() error {
		defer stop()
		return a.runProxy(ctx, serving)
	})
	return group.Wait()
}

// longPreparation is worth a line in the log.
const longPreparation = time.Second

// hold keeps the identity current, once all is prepared.
func (a *Agent) hold(ctx context.Context) error {
	if a.o.Prepare != nil {
		late := time.AfterFunc(longPreparation, func() { a.o.Log.Warn().Str("why", a.o.Preparing).Msg("the agent waits before it uses the network") })
		err := a.o.Prepare(ctx)
		if !late.Stop() {
			a.o.Log.Info().Msg("the agent goes on")
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("prepare the sidecar: %w", err)
		}
	}
	close(a.prepared)
	return a.held.Run(ctx)
}

// runProxy runs Envoy as soon as there is an identity for it, and returns when it has ended.
func (a *Agent) runProxy(ctx, serving context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(serving, stop)() // without its agent there is no Envoy
	if a.o.Proxy == nil {
		<-ctx.Done()
		return nil
	}
	if !a.held.Wait(ctx) {
		return nil
	}
	return a.o.Proxy.Run(ctx)
}

// relayPatience is how long an application's stream waits for the first certificate before it is told that there is none:
// less than the 15 s after which gRPC takes what it has asked for to be absent (gRFC A57).
const relayPatience = 5 * time.Second

func nothing(context.Context) error { return nil }

func (a *Agent) serveSDS() (func(context.Context) error, error) {
	l, err := listenPrivate(a.o.SDS)
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 20))
	a.sds.Register(s)
	return func(ctx context.Context) error { return serveGRPC(ctx, s, l) }, nil
}

func (a *Agent) serveWorkloadAPI() (func(context.Context) error, error) {
	if a.o.WorkloadAPI == "" {
		return nothing, nil
	}
	l, err := listenUnix(a.o.WorkloadAPI, orDefault(a.o.WorkloadMode, 0o600))
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(workloadapi.ServerOptions()...)
	workloadapi.New(workloadapi.Options{Source: source{a}, Log: a.o.Log}).Register(s)
	return func(ctx context.Context) error { return serveGRPC(ctx, s, l) }, nil
}

func (a *Agent) serveRelay() (func(context.Context) error, error) {
	o := a.o.Relay
	if o.Socket == "" {
		return nothing, nil
	}
	r, err := relay.New(relay.Options{
		Address: o.Address, TLS: a.held.TLS(o.ControlPlane), Log: a.o.Log,
		Identity: func(ctx context.Context) {
			ctx, stop := context.WithTimeout(ctx, relayPatience)
			defer stop()
			a.held.Wait(ctx) // without one the handshake says so
		},
	})
	if err != nil {
		return nil, err
	}
	l, err := listenUnix(o.Socket, orDefault(o.Mode, 0o600))
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	text, err := relay.Bootstrap(o.Socket, o.Node, o.Region, o.Zone)
	if err == nil {
		// Readable by whoever may enter the directory: the application has another user, and there is no secret in it.
		err = os.WriteFile(filepath.Join(filepath.Dir(o.Socket), BootstrapName), text, 0o644)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write gRPC's bootstrap beside %s: %w", o.Socket, err), l.Close(), r.Close())
	}
	return func(ctx context.Context) error {
		return errors.Join(serveGRPC(ctx, r.Server(), l), r.Close())
	}, nil
}

// serveGRPC serves until ctx is done. Streams are cut then: none of them ends by itself.
func serveGRPC(ctx context.Context, s *grpc.Server, l net.Listener) error {
	defer context.AfterFunc(ctx, s.Stop)()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// source is the agent as the Workload API sees it.
type source struct{ *Agent }

func (s source) Documents() (*workloadapi.SVID, *spiffebundle.Bundle, <-chan struct{}) {
	c, b, changed := s.held.Current()
	if c == nil {
		return nil, b, changed
	}
	return &workloadapi.SVID{ID: c.ID(), Chain: c.Chain(), PKCS8: c.PKCS8}, b, changed
}

func (s source) JWT(ctx context.Context, audience []string) (string, error) {
	return s.signer.JWT(ctx, audience)
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
