package xds

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
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
		grpc.MaxRecvMsgSize(8 << 20),
		grpc.MaxConcurrentStreams(64),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}, more...)
}
