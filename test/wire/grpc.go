package wire

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ServeGRPC lets the applications speak gRPC: the service, and gRPC's own health service, which it gives.
func (as Apps) ServeGRPC(service *TestService) *health.Server {
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, service)
	status := health.NewServer()
	healthpb.RegisterHealthServer(s, status)
	conns := newInbox()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(conns) }()
	for _, a := range as {
		a.Speaks(conns.put)
		a.Hangup() // its sidecar may have begun to check its health
	}
	t := as[0].t
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Errorf("gRPC server: %v", err)
		}
	})
	return status
}

// TestService answers calls with the status, headers, trailers and sizes that they ask for, as gRPC's interoperability
// tests have it (https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md).
type TestService struct {
	grpc_testing.UnimplementedTestServiceServer

	mu    sync.Mutex
	fail  int
	failc codes.Code
}

// FailFirst lets the next n unary calls fail.
func (s *TestService) FailFirst(n int, with codes.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.failc = n, with
}

// EmptyCall succeeds.
func (*TestService) EmptyCall(context.Context, *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, nil
}

// UnaryCall answers with the status that is asked for.
func (s *TestService) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if err := s.failure(); err != nil {
		return nil, err
	}
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

func (s *TestService) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == 0 {
		return nil
	}
	s.fail--
	return status.Error(s.failc, "as told")
}

// FullDuplexCall answers each message with bodies of the sizes that it asks for.
func (*TestService) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
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
