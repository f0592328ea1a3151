package xds

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Session is what a stream was admitted as.
type Session struct {
	Proxy  string  // who it is, for limits and refusals; default: its node id
	Layers []Layer // what it sees, most specific first
	// Begun is called once [Server.Return] can reach the stream, and refuses it if what Connect said holds no more; may
	// be nil.
	Begun func() error
	Close func() // called once when the stream has ended; may be nil
}

// Options configure a Server. Only Store and Connect are required.
type Options struct {
	Store *Store
	// Connect decides who a stream is and what it sees. It is asked once per stream; an error ends the stream. The
	// Node comes without the extensions that an Envoy lists.
	Connect  func(context.Context, *corev3.Node) (Session, error)
	Observer Observer
	Log      zerolog.Logger // of what the Observer is not told: streams that broke a rule

	Warming time.Duration // how long listeners and routes wait for clusters to be confirmed; default 5 s
	Grace   time.Duration // between the last route to a cluster and the cluster's removal; default 5 s
	// RefusalQuorum is how many proxies must refuse a version until nobody gets it; default 2, and fewer where fewer see it.
	// One alone may be odd. It is no share of the fleet, because refusals are no vote: a version that two cannot use is one
	// that some part of the fleet cannot, and each proxy that is asked first gives up a whole response for it. What is
	// served instead some proxy accepted before; where there is nothing like that, what others run is not taken away. So
	// two proxies that lie can hold a change up, which the policy's status tells, and cannot make one.
	RefusalQuorum int

	MaxNames   int        // of one type on one stream; default 50,000
	MaxStreams int        // of one proxy at once; default 4: an old one may linger when a proxy reconnects
	Accepts    rate.Limit // new streams per second; default 500
	Burst      int        // of new streams; default 1,000

	// Start bounds the bytes per second of the first responses to proxies that have nothing yet; default 128 MB, about a
	// gigabit. Proxies that came back and have something get half as much, beside: they go on with what they have. A
	// proxy whose turn it is not waits, and its stream with it; one that has all there is does not.
	Start      rate.Limit
	StartBurst int // bytes sent before it counts; default 1 GB

	// MaxAge is how long a stream lives, 10 % more or less by chance; 0 for ever. Its proxy comes back, to another
	// replica maybe: so that after a restart not all stay with those that were there. See also ConnectionAge.
	MaxAge time.Duration
}

func (o Options) withDefaults() Options {
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	setDefault(&o.Warming, 5*time.Second)
	setDefault(&o.Grace, 5*time.Second)
	setDefault(&o.RefusalQuorum, 2)
	setDefault(&o.MaxNames, 50_000)
	setDefault(&o.MaxStreams, 4)
	setDefault(&o.Accepts, 500)
	setDefault(&o.Burst, 1000)
	setDefault(&o.Start, 128<<20)
	setDefault(&o.StartBurst, 1<<30)
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

type nobody struct{}

func (nobody) Observe(Event) {}

// Server serves a Store to proxies by ADS, delta and SotW.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts    Options
	rules   rules
	accepts *rate.Limiter
	running sync.WaitGroup

	mu       sync.Mutex
	draining chan struct{}
	streams  map[string]map[*stream]struct{} // by proxy
}

// NewServer gives a Server to be registered with a grpc.Server made with ServerOptions.
func NewServer(o Options) *Server {
	o = o.withDefaults()
	return &Server{
		opts: o,
		rules: rules{
			warming: o.Warming, grace: o.Grace, quorum: o.RefusalQuorum, names: o.MaxNames, nonce: unguessable,
			empty: rate.NewLimiter(o.Start, o.StartBurst), returned: rate.NewLimiter(o.Start/2, max(1, o.StartBurst/2)),
		},
		accepts:  rate.NewLimiter(o.Accepts, o.Burst),
		draining: make(chan struct{}),
		streams:  map[string]map[*stream]struct{}{},
	}
}

// age is how long one stream lives; 0 for ever.
func (s *Server) age() time.Duration {
	return time.Duration(float64(s.opts.MaxAge) * (0.9 + 0.2*rand.Float64()))
}

// unguessable gives the nonce of a response. Only who has read the response can acknowledge it.
func unguessable(response uint64) string {
	return strconv.FormatUint(response, 10) + "-" + strconv.FormatUint(rand.Uint64(), 36)
}

func draining() error {
	return status.Error(codes.Unavailable, "this replica is shutting down; connect to another")
}

// Drain ends every stream, so that proxies go to another replica, and takes no new ones. It returns when all have
// ended, or with ctx's error if some did not in time: stop the grpc.Server then.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("some streams did not end in time"), ctx.Err())
	}
}

// admit counts a stream in, or sheds it before it has cost anything.
func (s *Server) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.draining:
		return draining()
	default:
	}
	if !s.accepts.Allow() {
		return status.Error(codes.ResourceExhausted, "too many new streams at once; try again with backoff")
	}
	s.running.Add(1)
	return nil
}

// Return ends the streams of a proxy without fault. It comes back, and Options.Connect is asked anew what it sees.
func (s *Server) Return(proxy string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams[proxy] {
		select {
		case st.over <- struct{}{}:
		default: // it was told before
		}
	}
}

// enter counts a proxy's streams.
func (s *Server) enter(proxy string, st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams[proxy]) >= s.opts.MaxStreams {
		return status.Errorf(codes.ResourceExhausted, "proxy %q has %d streams already", proxy, s.opts.MaxStreams)
	}
	if s.streams[proxy] == nil {
		s.streams[proxy] = map[*stream]struct{}{}
	}
	s.streams[proxy][st] = struct{}{}
	return nil
}

func (s *Server) leave(proxy string, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams[proxy], st)
	if len(s.streams[proxy]) == 0 {
		delete(s.streams, proxy)
	}
}

// ready waits until the store may be served.
func (s *Server) ready(ctx context.Context) error {
	select {
	case <-s.opts.Store.Synced():
		return nil
	case <-s.draining:
		return draining()
	case <-ctx.Done():
		return ctx.Err()
	}
}
