package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Options have useful zero values.
type Options struct {
	Slot       time.Duration    // how finely time is told apart; default 10 s
	Keep       time.Duration    // how long it is remembered; default 1 h
	MaxSamples int              // bound of memory, at about 500 bytes a sample; default 100,000; a tenth is what a node may hold when room is short
	Now        func() time.Time // default time.Now
	// Connect says whose stream it is; an error ends it. It is asked once per stream. Default: the id that the node
	// claims, which is good enough for a socket that only this user may open.
	Connect func(context.Context, *corev3.Node) (Session, error)
	Opened  func(node string) // is told whose statistics arrive from now on, on that stream's goroutine; may be nil
	Streaks StreakListener    // may be nil
	Log     zerolog.Logger
}

// Session is what a stream was admitted as.
type Session struct {
	Node  string          // whose statistics it brings
	Over  <-chan struct{} // ends the stream without fault when it is closed; nil: never
	Close func()          // called once when the stream has ended; may be nil
}

// StreakListener hears that a sidecar found its own application failing, as often in a row as its policy says. It is
// called from a stream's goroutine.
type StreakListener interface {
	Streak(node string, port uint16)
}

// Observer receives what sidecars count. Register it with a gRPC server as metricsv3.MetricsServiceServer.
type Observer struct {
	metricsv3.UnimplementedMetricsServiceServer
	options Options

	mu     sync.Mutex
	window window
}

// New gives an Observer that has seen nothing.
func New(o Options) *Observer {
	o.Slot = orDefault(o.Slot, 10*time.Second)
	o.Keep = orDefault(o.Keep, time.Hour)
	o.MaxSamples = orDefault(o.MaxSamples, 100_000)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Connect == nil {
		o.Connect = func(_ context.Context, n *corev3.Node) (Session, error) { return Session{Node: n.GetId()}, nil }
	}
	return &Observer{options: o, window: window{
		slot: o.Slot, keep: o.Keep, maxSamples: o.MaxSamples,
		totals: map[series]*Sample{}, states: map[series]State{},
		held: share{}, totalsHeld: share{}, statesHeld: share{},
	}}
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// StreamMetrics is one sidecar's stream. Who it is is settled by the first message.
func (o *Observer) StreamMetrics(stream metricsv3.MetricsService_StreamMetricsServer) error {
	m, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	if m.GetIdentifier().GetNode() == nil {
		return status.Error(codes.InvalidArgument, "the first message of a metrics stream must name its node")
	}
	session, err := o.options.Connect(stream.Context(), m.GetIdentifier().GetNode())
	if err != nil {
		return fmt.Errorf("metrics of %s: %w", m.GetIdentifier().GetNode().GetId(), err)
	}
	if session.Close != nil {
		defer session.Close()
	}
	node := session.Node
	log := o.options.Log.With().Str("node", node).Logger()
	log.Debug().Msg("metrics stream opened")
	if o.options.Opened != nil {
		o.options.Opened(node)
	}
	defer log.Debug().Msg("metrics stream closed")
	defer o.leave(node)
	o.take(node, m)
	messages, received := make(chan *metricsv3.StreamMetricsMessage), make(chan error, 1)
	go func() { received <- receive(stream, messages) }()
	for {
		select {
		case m := <-messages:
			o.take(node, m)
		case err := <-received:
			return ended(err)
		case <-session.Over:
			return stream.SendAndClose(&metricsv3.StreamMetricsResponse{}) // without an answer it would be a fault
		}
	}
}

// receive hands on messages until the stream ends.
func receive(stream metricsv3.MetricsService_StreamMetricsServer, messages chan<- *metricsv3.StreamMetricsMessage) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case messages <- m:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// ended is the result of a stream that the other side ended.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

func (o *Observer) take(node string, m *metricsv3.StreamMetricsMessage) {
	b, dropped := parse(node, m.GetEnvoyMetrics())
	o.mu.Lock()
	o.window.dropped += dropped
	o.window.add(o.options.Now(), b)
	o.mu.Unlock()
	if o.options.Streaks == nil {
		return
	}
	for _, text := range b.streaks() {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil { // the catch-all for undeclared ports has none
			o.options.Streaks.Streak(node, uint16(port))
		}
	}
}

func (o *Observer) leave(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.window.leave(node)
}

// View gives what was counted in the slots that began at since or later. The function names the source of what a node
// counted, so that the pods of a workload are added up; nil keeps the nodes apart.
func (o *Observer) View(since time.Time, source func(node string) string) View {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.window.forget(o.options.Now().Add(-o.window.keep))
	return o.window.view(o.window.sum(since), source)
}

// Totals gives what was counted since the start, however long ago that was.
func (o *Observer) Totals(source func(node string) string) View {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.window.view(o.window.totals, source)
}
