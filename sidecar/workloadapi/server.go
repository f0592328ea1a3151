package workloadapi

import (
	"context"
	"crypto/x509"
	"slices"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// SVID is the X.509 identity that is given out. The key is a function, so that printing an SVID prints no key.
type SVID struct {
	ID    spiffeid.ID
	Chain []*x509.Certificate
	PKCS8 func() ([]byte, error)
}

// Source is where the documents come from.
type Source interface {
	// Documents gives the current ones, nil for what there is not yet, and a channel that is closed when they change.
	Documents() (*SVID, *spiffebundle.Bundle, <-chan struct{})
	// JWT gives a fresh JWT-SVID of the same identity.
	JWT(ctx context.Context, audience []string) (string, error)
}

// Options describe a server. Source must be set.
type Options struct {
	Source Source
	Log    zerolog.Logger
}

// Server is the Workload API. Make it with [New].
type Server struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	source Source
	tokens *tokens
	log    zerolog.Logger
}

// New gives a server on a source.
func New(o Options) *Server {
	return &Server{source: o.Source, tokens: newTokens(o.Source), log: o.Log}
}

// Register adds the service to a gRPC server, which must have been made with [ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) { workload.RegisterSpiffeWorkloadAPIServer(r, s) }

// maxRequest bounds a request: the largest holds a JWT-SVID.
const maxRequest = 64 << 10

// ServerOptions are what a gRPC server needs to serve the Workload API safely.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(100),
		grpc.UnaryInterceptor(func(ctx context.Context, q any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := checkHeader(ctx); err != nil {
				return nil, err
			}
			return next(ctx, q)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := checkHeader(s.Context()); err != nil {
				return err
			}
			return next(srv, s)
		}),
	}
}

// checkHeader refuses a caller without the header that shows that it meant to call this API: a request forged through
// somebody else's client cannot carry it (SPIFFE Workload Endpoint, section 3, which also names the code).
func checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(md.Get("workload.spiffe.io"), []string{"true"}) {
		return status.Error(codes.InvalidArgument, "the metadata workload.spiffe.io: true is missing")
	}
	return nil
}

// stream sends what render makes of the documents, at first and whenever it becomes something else. A render without a
// result waits for the next change.
func stream[M any, P interface {
	*M
	proto.Message
}](s *Server, g grpc.ServerStreamingServer[M], render func(*SVID, *spiffebundle.Bundle) (P, error)) error {
	var last P
	for {
		svid, bundle, changed := s.source.Documents()
		next, err := render(svid, bundle)
		if err != nil {
			s.log.Error().Err(err).Msg("the Workload API cannot give out what it has")
			return status.Error(codes.Internal, err.Error())
		}
		if next != nil && !proto.Equal(last, next) {
			if err := g.Send(next); err != nil {
				return err
			}
			last = next
		}
		select {
		case <-changed:
		case <-g.Context().Done():
			return status.FromContextError(g.Context().Err()).Err()
		}
	}
}
