package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// Options describe a relay. All must be set.
type Options struct {
	// Identity returns when there is one to show, or when that takes too long. Each stream waits for it before anybody
	// is dialled: gRPC fails the calls of an application whose first stream fails.
	Identity func(context.Context)
	Address  string      // of the control plane, host:port
	TLS      *tls.Config // shows the current identity and verifies the peer by callbacks, since both rotate
	Log      zerolog.Logger
}

// Relay is a gRPC server that passes streams on. Make it with [New].
type Relay struct {
	conn *grpc.ClientConn
	o    Options
}

// Limits of messages, in bytes. A request lists names; a response can hold every cluster of a mesh.
const (
	maxRequest  = 4 << 20
	maxResponse = 256 << 20
)

// New gives a relay, which connects when its first stream comes. Close it.
func New(o Options) (*Relay, error) {
	conn, err := grpc.NewClient("dns:///"+o.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(o.TLS)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithDisableServiceConfig(), // a DNS record decides nothing here
	)
	if err != nil {
		return nil, fmt.Errorf("prepare the relay to %s: %w", o.Address, err)
	}
	return &Relay{conn, o}, nil
}

// Close ends the connection to the control plane.
func (r *Relay) Close() error { return r.conn.Close() }

// Server gives the gRPC server that an application connects to.
func (r *Relay) Server() *grpc.Server {
	return grpc.NewServer(
		grpc.ForceServerCodecV2(raw{}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(100),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return r.pass(s) }),
	)
}

// passed are the only methods that are.
func passed(method string) bool {
	const ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
	return method == ads+"StreamAggregatedResources" || method == ads+"DeltaAggregatedResources"
}

// pass carries one stream until either side ends it.
func (r *Relay) pass(from grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(from)
	if !passed(method) {
		return status.Errorf(codes.Unimplemented, "%s: this socket passes on ADS streams only", method)
	}
	ctx, stop := context.WithCancel(from.Context())
	defer stop()
	r.o.Identity(ctx)
	to, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return fmt.Errorf("open a stream to the control plane at %s: %w", r.o.Address, err)
	}
	r.o.Log.Debug().Str("method", method).Msg("an application's xDS stream is passed on")
	// This goroutine ends with the handler: RecvMsg fails then, and SendMsg because stop is called.
	go func() {
		err := forward(from, to)
		if err == nil {
			err = to.CloseSend()
		}
		// After io.EOF the control plane has ended the stream; what it said last is still to be passed back.
		if err != nil && !errors.Is(err, io.EOF) {
			stop()
		}
	}()
	return forward(to, from)
}

type receiver interface{ RecvMsg(m any) error }
type sender interface{ SendMsg(m any) error }

// forward passes messages on until there are no more, which is no error.
func forward(from receiver, to sender) error {
	for {
		var m message
		if err := from.RecvMsg(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := to.SendMsg(&m); err != nil {
			return err
		}
	}
}

// message is the bytes of a message that nobody here reads.
type message struct{ data mem.BufferSlice }

// raw is gRPC's codec for [message]: it does nothing.
type raw struct{}

var _ encoding.CodecV2 = raw{}

// Name is what the content type says: the messages are protobuf, whoever reads them.
func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("relay: cannot pass on a %T", v)
	}
	return m.data, nil // the reference goes to the transport, which frees it
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("relay: cannot take in a %T", v)
	}
	data.Ref() // the transport frees its reference when this returns
	m.data = data
	return nil
}
