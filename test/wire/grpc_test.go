package wire_test

import (
	"context"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestGRPCKeepsItsStatusTrailersAndStreams(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	wire.Apps{mesh.AppAt("store-1", 9090)}.ServeGRPC(&wire.TestService{})
	client := grpc_testing.NewTestServiceClient(dialGRPC(t, mesh, "stock:9090"))

	t.Run("status", func(t *testing.T) {
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{
			ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "sold out: 100 %"},
		})
		if got := status.Convert(err); got.Code() != codes.FailedPrecondition || got.Message() != "sold out: 100 %" {
			t.Errorf("the status is %v", got)
		}
	})
	t.Run("headers and trailers", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(t.Context(),
			"x-grpc-test-echo-initial", "first", "x-grpc-test-echo-trailing-bin", "last")
		var header, trailer metadata.MD
		if _, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		if h, tr := header.Get("x-grpc-test-echo-initial"), trailer.Get("x-grpc-test-echo-trailing-bin"); len(h) != 1 || h[0] != "first" || len(tr) != 1 || tr[0] != "last" {
			t.Errorf("headers %v, trailers %v", header, trailer)
		}
	})
	t.Run("a conversation", func(t *testing.T) {
		stream, err := client.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int32{1, 1000, 100_000} {
			err := stream.Send(&grpc_testing.StreamingOutputCallRequest{
				ResponseParameters: []*grpc_testing.ResponseParameters{{Size: size}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := stream.Recv()
			if err != nil || len(got.Payload.Body) != int(size) {
				t.Fatalf("asked for %d bytes, got %d (%v)", size, len(got.GetPayload().GetBody()), err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("the conversation ends with %v, want EOF", err)
		}
	})
}

func TestGRPCIsRoutedRetriedAndFailedByItsOwnStatus(t *testing.T) {
	mesh := wire.Start(t, "grpc")
	service := &wire.TestService{}
	health := mesh.Apps("stock").ServeGRPC(service)
	conn := dialGRPC(t, mesh, "stock:9090")
	client := grpc_testing.NewTestServiceClient(conn)
	serves := func() bool {
		_, err := client.EmptyCall(t.Context(), &grpc_testing.Empty{})
		return err == nil
	}
	// Until its first check a pod counts as healthy, so what the checks find is only sure once it has changed.
	health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	mesh.Eventually("no pod is asked, as none says that it serves", func() bool { return !serves() })
	health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	mesh.Eventually("pods that serve are asked", serves)

	t.Run("retried", func(t *testing.T) {
		service.FailFirst(2, codes.Unavailable)
		if _, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); err != nil {
			t.Errorf("two failures were not retried: %v", err)
		}
		service.FailFirst(1, codes.Internal)
		if _, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Internal {
			t.Errorf("a status that is not listed ended as %v, want internal", err)
		}
	})
	t.Run("routed by method", func(t *testing.T) {
		var header metadata.MD
		if _, err := client.EmptyCall(t.Context(), &grpc_testing.Empty{}, grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		if got := header.Get("x-route"); len(got) != 1 || got[0] != "empty" {
			t.Errorf("the route is %v", got)
		}
	})
	t.Run("failed on purpose", func(t *testing.T) {
		_, err := grpc_testing.NewReconnectServiceClient(conn).Stop(t.Context(), &grpc_testing.Empty{})
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("the call ended as %v, want resource exhausted", err)
		}
	})
}

func dialGRPC(t *testing.T, mesh *wire.Mesh, service string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+service, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return mesh.Caller("web").Dial(service), nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
