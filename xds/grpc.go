package xds

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a response that is marshalled already.
type message struct{ data mem.BufferSlice }

// codec passes messages through and leaves everything else to grpc's own codec for protobuf.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*message); ok {
		return m.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal leaves the extensions out of the node of a delta request: an Envoy names more than 500 of them, 60 KB in
// all, and nobody asks for them.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*discoveryv3.DeltaDiscoveryRequest); !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(withoutExtensions(whole.ReadOnlyData()))}, v)
}

// withoutExtensions copies a request that begins with its node, as Envoy writes it. Others it gives back as they are,
// and what cannot be read, so that whoever unmarshals it finds the fault.
func withoutExtensions(request []byte) []byte {
	const (
		nodeField       = 1
		extensionsField = 9
	)
	number, kind, tag := protowire.ConsumeTag(request)
	if tag < 0 || number != nodeField || kind != protowire.BytesType {
		return request
	}
	node, n := protowire.ConsumeBytes(request[tag:])
	if n < 0 {
		return request
	}
	var kept []byte
	for len(node) > 0 {
		number, _, size := protowire.ConsumeField(node)
		if size < 0 {
			return request
		}
		if number != extensionsField {
			kept = append(kept, node[:size]...)
		}
		node = node[size:]
	}
	return slices.Concat(appendHead(nil, nodeField, len(kept)), kept, request[tag+n:])
}

// ConnectionAge makes connections last as Options.MaxAge says: before its streams end a connection takes no new ones,
// which therefore begin on another, and so maybe at another replica. Streams of other services on it are cut soon after.
// With 0 they last for ever.
func ConnectionAge(maxAge time.Duration) grpc.ServerOption {
	// grpc-go varies MaxConnectionAge by 10 % of its own, so this is at most 0.88, and streams end from 0.9 to 1.1.
	return grpc.KeepaliveParams(keepalive.ServerParameters{
		Time: 30 * time.Second, Timeout: 20 * time.Second, MaxConnectionAge: maxAge * 8 / 10, MaxConnectionAgeGrace: maxAge / 2,
	})
}

// ServerOptions are what a grpc.Server needs to serve a Server, and to do so at the cost of little more than the
// bytes: a codec for prebuilt responses; fixed windows, which switch off the pings that probe for bandwidth and
// cost nearly as much as a push; buffers fit for many idle connections; and keepalive, which ends dead peers.
func ServerOptions(more ...grpc.ServerOption) []grpc.ServerOption {
	const window = 256 << 10
	return append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(4 << 10),
		grpc.WriteBufferSize(16 << 10),
		grpc.MaxRecvMsgSize(8 << 20), // an Envoy that comes back lists all it has: Options.MaxNames of 160 bytes each
		grpc.MaxConcurrentStreams(64),
		ConnectionAge(0),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}, more...)
}
