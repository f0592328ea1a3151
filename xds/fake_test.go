package xds

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"
)

// fakeProxy is the far end of a stream, without a network. It says only what it is told to say.
type fakeProxy struct {
	grpc.ServerStream // nil: only what is overridden here is used
	ctx               context.Context
	hangUp            context.CancelFunc
	name              string
	kind              dialect
	requests          chan proto.Message

	mu        sync.Mutex
	responses []proto.Message
	nonces    map[string]string // the newest that was looked at, by type
	spoken    bool              // has introduced itself
	buffered  int               // bytes that grpc took and the proxy did not read
	gate      chan struct{}     // closed while the proxy reads
	ended     bool
	err       error
}

// dial opens a stream to s.
func dial(s *Server, name string, kind dialect) *fakeProxy {
	ctx, cancel := context.WithCancel(context.Background())
	p := &fakeProxy{
		ctx: ctx, hangUp: cancel, name: name, kind: kind,
		requests: make(chan proto.Message, 100), nonces: map[string]string{}, gate: make(chan struct{}),
	}
	close(p.gate)
	go func() {
		var err error
		if kind == delta {
			err = s.DeltaAggregatedResources(&grpc.GenericServerStream[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]{ServerStream: p})
		} else {
			err = s.StreamAggregatedResources(&grpc.GenericServerStream[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]{ServerStream: p})
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended, p.err = true, err
		cancel()
	}()
	return p
}

func (p *fakeProxy) Context() context.Context { return p.ctx }

func (p *fakeProxy) RecvMsg(m any) error {
	select {
	case r := <-p.requests:
		proto.Merge(m.(proto.Message), r)
		return nil
	case <-p.ctx.Done():
		return io.EOF
	}
}

// SendMsg takes a response the way grpc would: through the codec, to bytes and back; and blocking only if too much
// is taken already that the proxy did not read.
func (p *fakeProxy) SendMsg(m any) error {
	p.mu.Lock()
	gate, full := p.gate, p.buffered >= quota
	p.mu.Unlock()
	if full {
		select {
		case <-gate:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	data, err := codec{encoding.GetCodecV2(grpcproto.Name)}.Marshal(m)
	if err != nil {
		return err
	}
	var response proto.Message = &discoveryv3.DeltaDiscoveryResponse{}
	if p.kind == sotw {
		response = &discoveryv3.DiscoveryResponse{}
	}
	if err := proto.Unmarshal(data.Materialize(), response); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.responses = append(p.responses, response)
	select {
	case <-p.gate:
	default:
		p.buffered += data.Len()
	}
	return nil
}

func (p *fakeProxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *fakeProxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buffered = 0
	close(p.gate)
}

// speak sends one request:
//
//	ask TYPE [NAME ...] [-NAME ...] [known NAME@LABEL ...]
//	ack TYPE [NAME ...] [-NAME ...] [nonce=N]     the newest response, with a change of names if there is one
//	nack TYPE [nonce=N] reason ...
//	node NAME                                     an empty request from another node
func (p *fakeProxy) speak(verb string, args []string, versionOf func(t Type, name, label string) string) error {
	if verb == "node" {
		p.requests <- &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: args[0]}, TypeUrl: Cluster.URL()}
		return nil
	}
	url := urlPrefix + args[0]
	t, err := typeNamed(args[0])
	if err == nil {
		url = t.URL()
	}
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: map[string]string{}}
	if !p.spoken {
		r.Node, p.spoken = &corev3.Node{Id: p.name}, true
	}
	if verb != "ask" {
		r.ResponseNonce = p.nonces[url]
	}
	args = args[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "nonce=") {
		r.ResponseNonce, args = strings.TrimPrefix(args[0], "nonce="), args[1:]
	}
	if verb == "nack" {
		r.ErrorDetail = &statuspb.Status{Code: 13, Message: strings.Join(args, " ")}
		args = nil
	}
	known := false
	for _, a := range args {
		switch name, label, _ := strings.Cut(a, "@"); {
		case a == "known":
			known = true
		case known:
			r.InitialResourceVersions[name] = versionOf(t, name, label)
		case strings.HasPrefix(a, "-"):
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, a[1:])
		default:
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, a)
		}
	}
	if p.kind == delta {
		p.requests <- r
		return nil
	}
	p.requests <- &discoveryv3.DiscoveryRequest{
		Node: r.Node, TypeUrl: r.TypeUrl, ResponseNonce: r.ResponseNonce, ErrorDetail: r.ErrorDetail, ResourceNames: r.ResourceNamesSubscribe,
	}
	return nil
}

// want checks the oldest response that was not looked at yet.
func (p *fakeProxy) want(want string, label func(string) string) error {
	got := p.next(label)
	if !strings.Contains(want, "nonce=") {
		got, _, _ = strings.Cut(got, " nonce=")
	}
	if got != want {
		return fmt.Errorf("got:  %s\nwant: %s", got, want)
	}
	return nil
}

// next takes the oldest response as text; empty if there is none.
func (p *fakeProxy) next(label func(string) string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.responses) == 0 {
		return ""
	}
	r := p.responses[0]
	p.responses = p.responses[1:]
	var words []string
	var url, nonce string
	switch r := r.(type) {
	case *discoveryv3.DeltaDiscoveryResponse:
		url, nonce = r.TypeUrl, r.Nonce
		for _, res := range r.Resources {
			words = append(words, res.Name+"@"+label(res.Version))
		}
		for _, name := range r.RemovedResources {
			words = append(words, "-"+name)
		}
	case *discoveryv3.DiscoveryResponse:
		url, nonce = r.TypeUrl, r.Nonce
		for _, packed := range r.Resources {
			words = append(words, nameOf(packed.TypeUrl, packed.Value, label))
		}
	}
	p.nonces[url] = nonce
	slices.Sort(words)
	return strings.Join(append(append([]string{short(url)}, words...), "nonce="+nonce), " ")
}

// nameOf finds name and version of a resource in SotW, which says neither.
func nameOf(url string, value []byte, label func(string) string) string {
	t, _ := TypeOf(url)
	m := sample(t, "", "").ProtoReflect().New().Interface()
	if err := proto.Unmarshal(value, m); err != nil {
		return err.Error()
	}
	name, err := new(Resource).inspect(m)
	if err != nil {
		return err.Error()
	}
	r, err := NewResource(name, m)
	if err != nil {
		return err.Error()
	}
	return r.Name + "@" + label(r.Version)
}

func (p *fakeProxy) wantEnd(code string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended || codeOf(p.err) != code {
		return fmt.Errorf("ended: %v, error: %v; want code %s", p.ended, p.err, code)
	}
	return nil
}

// events collects what the observer is told, as far as scripts look at it.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) Observe(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Kind >= Condemned {
		e.all = append(e.all, ev)
	}
}

func (e *events) want(want string, label func(string) string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := "nothing"
	if len(e.all) > 0 {
		ev := e.all[0]
		e.all = e.all[1:]
		v := ev.Verdict
		got = fmt.Sprintf("%v %v %s@%s by %d", ev.Kind, v.Resource.Type, v.Resource.Name, label(v.Resource.Version), v.Proxies)
		if ev.Kind == Withdrawn {
			got += " good="
			if v.Good != nil {
				got += label(v.Good.Version)
			}
		}
	}
	if got != want {
		return fmt.Errorf("got:  %s\nwant: %s", got, want)
	}
	return nil
}
