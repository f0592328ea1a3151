package wire

import (
	"context"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// GRPC answers as a gRPC server.
func GRPC(s *grpc.Server) Behaviour { return func(http.Handler) http.Handler { return s } }

// TestService answers calls with the status, headers, trailers and sizes that they ask for, as gRPC's interoperability
// tests have it (https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md).
type TestService struct {
	grpc_testing.UnimplementedTestServiceServer
}

// UnaryCall answers with the status that is asked for.
func (TestService) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for name, send := range map[string]func(context.Context, metadata.MD) error{
		"x-grpc-test-echo-initial": grpc.SetHeader, "x-grpc-test-echo-trailing-bin": grpc.SetTrailer,
	} {
		if v := md.Get(name); len(v) > 0 {
			if err := send(ctx, metadata.Pairs(name, v[0])); err != nil {
				return nil, err
			}
		}
	}
	if s := in.GetResponseStatus(); s.GetCode() != 0 {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	return &grpc_testing.SimpleResponse{}, nil
}

// FullDuplexCall answers each message with bodies of the sizes that it asks for.
func (TestService) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range in.GetResponseParameters() {
			out := &grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: make([]byte, p.GetSize())}}
			if err := stream.Send(out); err != nil {
				return err
			}
		}
	}
}
