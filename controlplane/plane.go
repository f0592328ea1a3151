package controlplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/heddle-mesh/heddle/bounded"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/observe"
	"github.com/heddle-mesh/heddle/xds"
	"github.com/heddle-mesh/heddle/xds/hds"
)

// DefaultNamespace is where the control plane runs and mesh-wide policy lives.
const DefaultNamespace = "heddle-system"

// DefaultTrustDomain is the one of identities where no other is given.
const DefaultTrustDomain = "cluster.local"

// ConnectionAge is how old HTTP connections between sidecars may become where leaves live so long (0:
// identity.DefaultLifetime): an hour, or a quarter of a shorter life. Envoy keeps a connection whose certificates have
// expired, so it is this that ends it.
func ConnectionAge(leaf time.Duration) time.Duration {
	return min(mesh.DefaultConnectionAge, cmp.Or(leaf, identity.DefaultLifetime)/4)
}

// Source says what Kubernetes, or a folder in its place, holds. Run hands batches to out from one goroutine, with one
// Synced event after everything that was there at the start.
type Source interface {
	Run(ctx context.Context, out func([]model.Event)) error
}

// LastGood keeps the last good version of every policy over restarts.
type LastGood interface {
	Load(ctx context.Context) ([]model.SavedPolicy, error)
	// Save keeps a policy in the place of what it kept of that document. After kube.ErrTooLarge it is not asked again.
	Save(ctx context.Context, p model.SavedPolicy) error
}

// Observer is told what happens, on the loop's and on streams' goroutines: it must not block.
type Observer interface {
	Applied(ch mesh.Changes) // on the loop, after a batch was published
	Observe(e xds.Event)     // on streams
}

// What strangers at the door may take before anybody knows who they are. A node's pods may be behind one address, several
// hundred of them, and after a restart of ours each may have a new connection beside one that has not noticed yet. A
// sidecar that is turned away comes again. In all there is room for 20 such addresses.
const (
	doorPerAddress  = 1000
	doorConnections = 20_000
	doorPatience    = 10 * time.Second // for a handshake
)

// Door is where sidecars dial. There is no other, and none in plain text.
type Door struct {
	Listener net.Listener // TCP; closed when the control plane ends
	// TLS is the control plane's side of mutual TLS: it must ask for a certificate and accept none but of this mesh, as
	// [identity.Server] does.
	TLS *tls.Config
}

// Options say what a control plane watches and where it serves.
type Options struct {
	Source   Source
	LastGood LastGood // nil: nothing outlives a restart
	Door     Door
	// Listen is the TCP address of /livez, /readyz and /metrics; empty for none.
	Listen string
	// Namespace is the control plane's own; default DefaultNamespace.
	Namespace   string
	TrustDomain spiffeid.TrustDomain // of all identities; default DefaultTrustDomain
	// Unredirected honours what a sidecar without redirection says that it binds. Only for --manifests: nothing that
	// a sidecar says of itself decides anything in a cluster.
	Unredirected bool
	// ConnectionAge is how old an HTTP connection between sidecars may become before it is replaced; default 1 hour. See
	// [ConnectionAge].
	ConnectionAge time.Duration
	// StreamAge is how long a sidecar's stream lasts, 10 % more or less by chance, before the sidecar connects again, to
	// another replica maybe; default 30 min.
	StreamAge time.Duration
	// Drain is how long streams have to end by themselves on shutdown; default 5 s.
	Drain time.Duration
	// Certified says why sidecars cannot be let in, where the door's certificate comes from elsewhere; nil: they can. May be nil.
	Certified func() error
	Signing   func() error         // says why this process signs nothing, where it should; nil: it does. May be nil.
	Registry  *prometheus.Registry // default: a new one
	Status    func() kube.Status   // of the source, if it can lose what it watches; may be nil
	Signals   observe.Options      // how statistics of sidecars are kept
	Observer  Observer
	Log       zerolog.Logger
}

// Plane is one control plane.
type Plane struct {
	options   Options
	log       zerolog.Logger
	store     *xds.Store
	publisher *publisher
	saver     *saver
	registry  *prometheus.Registry
	metrics   *metrics
	signals   *observe.Observer
	judged    judged // nil: nobody hears what became of policies; set before Run

	batches  chan batch
	calls    chan func()
	refusals chan model.Event
	told     refusalLog
	looping  atomic.Bool   // the loop runs, or did
	stopped  chan struct{} // closed when it has ended
	ready    atomic.Bool
}

// New prepares a control plane; nothing runs before Run.
func New(o Options) *Plane {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	if o.StreamAge == 0 {
		o.StreamAge = 30 * time.Minute
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	p := &Plane{
		options: o, log: o.Log, store: xds.NewStore(), registry: o.Registry,
		saver:    newSaver(o.LastGood, o.Log),
		batches:  make(chan batch, 64),
		calls:    make(chan func()),
		refusals: make(chan model.Event, 1024),
		stopped:  make(chan struct{}),
	}
	p.metrics = newMetrics(p.registry)
	o.Signals.Streaks = health{p, o.Log}
	o.Signals.Connect = p.connectMeter
	p.signals = observe.New(o.Signals)
	return p
}

// Signals is what sidecars count. It may be read from any goroutine.
func (p *Plane) Signals() *observe.Observer { return p.signals }

// Run serves until ctx ends, then lets streams drain. It fails if the source gives up.
func (p *Plane) Run(ctx context.Context) error {
	if err := p.options.Door.check(); err != nil {
		return err
	}
	p.metrics.watch(p.registry, p.options.Status)
	p.registry.MustRegister(unhealthy{p})
	group, running := errgroup.WithContext(ctx)
	if p.options.Listen != "" {
		group.Go(func() error { return serveStatus(running, p.options.Listen, p.statusHandler(), p.log) })
	}
	group.Go(func() error { return p.serve(running) })
	err := group.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// check fails if nobody could come in.
func (d Door) check() error {
	if d.Listener == nil || d.TLS == nil {
		return errors.New("start the control plane: Options.Door needs a Listener and TLS; sidecars have no other way in")
	}
	return nil
}

// serve serves sidecars. What was saved is needed first, which may be long in coming: without it a broken policy would
// be taken for one that never was good.
func (p *Plane) serve(ctx context.Context) error {
	defer func() { _ = p.options.Door.Listener.Close() }() // its server has, if it came to that
	saved, err := p.saver.load(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("loading the last good policies: %w", err)
	}
	state := mesh.New(mesh.Options{
		Namespace: p.options.Namespace, TrustDomain: p.options.TrustDomain.Name(), Saved: saved, Unredirected: p.options.Unredirected,
		ConnectionAge: p.options.ConnectionAge,
	})
	p.publisher = newPublisher(state, p.store, p.metrics, p.log)

	server := p.server()
	p.publisher.sendAway = server.ads.Return
	group, running := errgroup.WithContext(ctx)
	answering, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	saving, stopSaver := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return p.loop(answering) })
	group.Go(func() error { return p.saver.run(saving) })
	group.Go(func() error { return p.runSource(running) })
	group.Go(func() error {
		return server.serve(bounded.Listener(p.options.Door.Listener, doorPerAddress, doorConnections))
	})
	group.Go(func() error {
		<-running.Done()
		p.ready.Store(false)
		p.log.Info().Dur("drain", p.options.Drain).Msg("stopping: sidecars are sent away and keep what they have")
		defer stopSaver() // after the last batch
		defer func() { <-p.stopped }()
		defer stopLoop() // it answers streams until they have ended
		if err := server.stop(p.options.Drain); err != nil {
			p.log.Warn().Err(err).Dur("drain", p.options.Drain).Msg("ended the streams that were left; their sidecars connect again elsewhere")
		}
		return nil
	})
	return group.Wait()
}

// runSource runs the source, whose end before ctx's is a failure.
func (p *Plane) runSource(ctx context.Context) error {
	err := p.options.Source.Run(ctx, p.receive(ctx))
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("the source ended by itself")
	}
	return fmt.Errorf("watching the mesh: %w", err)
}

// adsServer is the gRPC server with what is needed to end it.
type adsServer struct {
	grpc *grpc.Server
	ads  *xds.Server
}

func (p *Plane) server() adsServer {
	ads := xds.NewServer(xds.Options{
		Store:    p.store,
		Connect:  p.connect,
		Observer: observer{p},
		MaxAge:   p.options.StreamAge,
		Log:      p.log.With().Str("component", "xds").Logger(),
	})
	s := grpc.NewServer(xds.ServerOptions(xds.ConnectionAge(p.options.StreamAge), grpc.ConnectionTimeout(doorPatience),
		grpc.Creds(guard{credentials.NewTLS(p.options.Door.TLS), p.refusedHandshake}))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, ads)
	metricsv3.RegisterMetricsServiceServer(s, p.signals)
	healthv3.RegisterHealthDiscoveryServiceServer(s, hds.NewServer(hds.Options{Connect: p.connectChecker, Log: p.log}))
	return adsServer{s, ads}
}

// serve answers sidecars until stop, which may come first.
func (s adsServer) serve(l net.Listener) error {
	if err := s.grpc.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// stop sends sidecars away, which keep what they have, and waits for their streams to end for a while only.
func (s adsServer) stop(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := s.ads.Drain(ctx)
	s.grpc.Stop()
	return err
}
