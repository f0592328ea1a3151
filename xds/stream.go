package xds

import (
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// request is what both protocols' requests have in common.
type request interface {
	GetNode() *corev3.Node
	GetTypeUrl() string
}

// stream drives one client over one gRPC stream. Whoever has something for it sends it: the goroutine that received
// an answer, or the one that published a change. A goroutine per stream that waits to be told would cost a wake-up
// for every push.
type stream struct {
	*client
	server *Server
	rpc    grpc.ServerStream
	recv   func() (request, error)
	apply  func(request, Type) error   // guarded by Store.mu, as is all of client
	deny   func(request) proto.Message // answers a request for a type that is not served; nil if it needs none
	encode func(*flight) *message

	denials []proto.Message // guarded by Store.mu, as is denied
	denied  bool            // some denial was due: nobody acknowledges them, so how much of them is unread is not known
	over    chan struct{}   // holds one once the stream is to end
	senders sync.WaitGroup
	alarm   *time.Timer
}

// DeltaAggregatedResources implements the delta protocol.
func (s *Server) DeltaAggregatedResources(rpc discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	c := &client{rules: &s.rules, dialect: delta}
	return (&stream{
		client: c, server: s, rpc: rpc, over: make(chan struct{}, 1), encode: encodeDelta,
		recv:  func() (request, error) { return rpc.Recv() },
		apply: func(r request, t Type) error { return c.onDelta(t, r.(*discoveryv3.DeltaDiscoveryRequest)) },
		deny:  denyDelta,
	}).run()
}

// StreamAggregatedResources implements the state-of-the-world protocol.
func (s *Server) StreamAggregatedResources(rpc discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	c := &client{rules: &s.rules, dialect: sotw}
	return (&stream{
		client: c, server: s, rpc: rpc, over: make(chan struct{}, 1), encode: encodeSotw,
		recv:  func() (request, error) { return rpc.Recv() },
		apply: func(r request, t Type) error { return c.onSotw(t, r.(*discoveryv3.DiscoveryRequest)) },
		deny:  denySotw,
	}).run()
}

// run serves the stream until the proxy leaves, breaks a rule, or the server drains, or the stream is old. Requests are
// read beside it: a read ends only with the stream.
func (st *stream) run() error {
	s := st.server
	if err := s.admit(); err != nil {
		s.opts.Log.Warn().Err(err).Msg("a stream was turned away")
		return err
	}
	ended := make(chan error, 1)
	go func() {
		defer s.running.Done()
		ended <- st.receive()
	}()
	var old <-chan time.Time
	if age := s.age(); age > 0 {
		timer := time.NewTimer(age)
		defer timer.Stop()
		old = timer.C
	}
	select {
	case <-old:
		return nil // an Envoy takes it for no fault, and comes back
	case <-st.over:
		return nil
	case err := <-ended:
		switch status.Code(err) {
		case codes.OK, codes.Canceled, codes.Unavailable: // the proxy left, or we do
		default:
			s.opts.Log.Warn().Str("proxy", st.proxy).Err(err).Msg("a stream was ended")
		}
		return err
	case <-s.draining:
		return draining()
	}
}

// receive binds the stream to a proxy by its first request and then handles one request after the other.
func (st *stream) receive() error {
	r, err := st.recv()
	if err != nil {
		return ended(err)
	}
	session, err := st.begin(r.GetNode())
	if err != nil {
		return err
	}
	defer st.end(session)
	node := fingerprint(r.GetNode())
	for {
		if err := st.handle(r); err != nil {
			return err
		}
		st.flush()
		if r, err = st.recv(); err != nil {
			return ended(err)
		}
		if r.GetNode() != nil && fingerprint(r.GetNode()) != node {
			st.server.opts.Observer.Observe(Event{Kind: SecondNode, Proxy: st.proxy})
			return status.Errorf(codes.PermissionDenied, "the stream belongs to proxy %q; a request on it carried another node", st.proxy)
		}
	}
}

// ended turns the orderly end of a stream into success.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// fingerprint stands for a Node, which is tens of kilobytes when an Envoy sends it.
func fingerprint(n *corev3.Node) [sha256.Size]byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(n)
	if err != nil {
		return [sha256.Size]byte{} // what was just unmarshalled can be marshalled
	}
	return sha256.Sum256(b)
}

// begin asks who the proxy is, waits until there is something to serve, and joins the store.
func (st *stream) begin(n *corev3.Node) (Session, error) {
	s, ctx := st.server, st.rpc.Context()
	if n == nil {
		return Session{}, status.Error(codes.InvalidArgument, "the first request of a stream must carry the node")
	}
	session, err := s.opts.Connect(ctx, n)
	if err != nil {
		return Session{}, err
	}
	if session.Proxy == "" {
		session.Proxy = n.GetId()
	}
	if session.Close == nil {
		session.Close = func() {}
	}
	if err := s.enter(session.Proxy, st); err != nil {
		session.Close()
		return Session{}, err
	}
	if err := s.ready(ctx); err != nil {
		s.leave(session.Proxy, st)
		session.Close()
		return Session{}, err
	}
	if session.Begun != nil {
		if err := session.Begun(); err != nil {
			s.leave(session.Proxy, st)
			session.Close()
			return Session{}, err
		}
	}
	st.proxy, st.push = session.Proxy, st.tryFlush
	s.opts.Store.mu.Lock()
	s.opts.Store.attach(st.client, session.Layers)
	s.opts.Store.mu.Unlock()
	s.opts.Observer.Observe(Event{Kind: Connected, Proxy: st.proxy})
	return session, nil
}

// end undoes begin. No goroutine sends on the stream once it returns.
func (st *stream) end(session Session) {
	s := st.server
	st.store.mu.Lock()
	st.giveUpTurn(time.Now())
	s.opts.Store.detach(st.client)
	if st.alarm != nil {
		st.alarm.Stop()
	}
	st.store.mu.Unlock()
	st.senders.Wait()
	s.leave(session.Proxy, st)
	session.Close()
	s.opts.Observer.Observe(Event{Kind: Disconnected, Proxy: st.proxy})
}

// handle takes one request and passes on what follows from it for others.
func (st *stream) handle(r request) error {
	if err := st.rules.admit(r); err != nil {
		return err
	}
	t, served := TypeOf(r.GetTypeUrl())
	st.store.mu.Lock()
	var err error
	if served {
		err = st.apply(r, t)
	} else if denial := st.deny(r); denial != nil {
		st.server.opts.Log.Debug().Str("proxy", st.proxy).Str("type", r.GetTypeUrl()).Msg("a type that is not served was asked for")
		err = st.refuseType(denial)
	}
	woken := st.store.pushersOf(st.touched)
	st.touched = nil
	st.store.mu.Unlock()
	pushAll(woken)
	for _, e := range st.events {
		st.server.opts.Observer.Observe(e)
	}
	st.events = st.events[:0]
	return err
}

// refuseType has a request for a type that is not served answered. A proxy that does not read what it asked for may
// not let them pile up.
func (st *stream) refuseType(denial proto.Message) error {
	const most = 10
	if len(st.denials) >= most {
		return status.Errorf(codes.ResourceExhausted, "%d answers about types that are not served wait to be read", most)
	}
	st.denials, st.denied = append(st.denials, denial), true
	return nil
}

// quota is how much grpc-go takes for a stream without waiting for it to be written: 64 KB (its transport's
// defaultWriteQuota), less some for what surrounds the resources. With less than that unacknowledged, a send returns
// at once: nobody acknowledges what it has not read, since nonces cannot be guessed.
const quota = 60 << 10

// flush sends what may be sent now, waiting for the proxy to read if need be.
func (st *stream) flush() { st.send(math.MaxInt) }

// tryFlush is flush for goroutines that must not wait: where sending could block, the stream gets one of its own.
func (st *stream) tryFlush() {
	if !st.send(quota) {
		go st.flush()
	}
}

// send sends what may be sent now, one goroutine at a time: who finds another at it leaves it the rest. It stops,
// and says so, when more bytes are under way than the limit.
func (st *stream) send(limit int) (done bool) {
	mu := &st.store.mu
	mu.Lock()
	defer mu.Unlock()
	if st.sending || st.closed {
		return true
	}
	st.sending = true
	st.senders.Add(1)
	defer func() {
		st.sending = false
		st.senders.Done()
	}()
	for !st.closed {
		if st.unacked >= limit || st.denied && limit == quota {
			return false
		}
		message, sent, again := st.compose()
		if message == nil {
			st.wakeAt(again)
			return true
		}
		mu.Unlock()
		err := st.rpc.SendMsg(message)
		st.server.opts.Observer.Observe(sent)
		mu.Lock()
		if err != nil {
			return true // reading fails too, and that ends the stream
		}
	}
	return true
}

// compose gives the next message, or nil and when to look again.
func (st *stream) compose() (message any, sent Event, again time.Time) {
	if len(st.denials) > 0 {
		message, st.denials = st.denials[0], st.denials[1:]
		return message, Event{Kind: Sent, Proxy: st.proxy}, time.Time{}
	}
	f, again := st.next(time.Now())
	if f == nil {
		return nil, Event{}, again
	}
	n := len(f.items) + len(f.removed)
	return st.encode(f), Event{Kind: Sent, Proxy: st.proxy, Type: f.typ, Resources: n, Bytes: f.size}, time.Time{}
}

// wakeAt looks again at that time, unless it is zero.
func (st *stream) wakeAt(t time.Time) {
	if t.IsZero() {
		return
	}
	if st.alarm == nil {
		st.alarm = time.AfterFunc(time.Until(t), st.tryFlush)
		return
	}
	st.alarm.Reset(time.Until(t))
}

// pushAll runs the pushers, none of which blocks, on all processors. It returns when each had its turn, which
// holds a publisher back for as long as it takes and no longer.
func pushAll(pushers []func()) {
	workers := min(runtime.GOMAXPROCS(0), len(pushers))
	if workers <= 1 {
		for _, push := range pushers {
			push()
		}
		return
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := taken.Add(1); i <= int64(len(pushers)); i = taken.Add(1) {
				pushers[i-1]()
			}
		})
	}
	wg.Wait()
}
