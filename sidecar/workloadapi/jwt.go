package workloadapi

import (
	"context"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// Limits of a request for a token: an audience is a name, and a token with many is good for much.
const (
	maxAudiences      = 16
	maxAudienceLength = 512
)

// FetchJWTSVID gives a token for the audience.
func (s *Server) FetchJWTSVID(ctx context.Context, q *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	if err := checkAudience(q.GetAudience()); err != nil {
		return nil, err
	}
	svid, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	id := svid.ID.String()
	if q.GetSpiffeId() != "" && q.GetSpiffeId() != id {
		return nil, status.Errorf(codes.PermissionDenied, "this workload is %s and nobody else", id)
	}
	token, err := s.tokens.get(ctx, q.GetAudience())
	if err != nil {
		s.log.Warn().Err(err).Msg("no JWT-SVID for an application")
		return nil, status.Errorf(codes.Unavailable, "get a JWT-SVID for %s: %v", id, err)
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: id, Svid: token}}}, nil
}

func checkAudience(audience []string) error {
	if len(audience) == 0 || len(audience) > maxAudiences {
		return status.Errorf(codes.InvalidArgument, "%d audiences; want 1 to %d", len(audience), maxAudiences)
	}
	for _, a := range audience {
		if a == "" || len(a) > maxAudienceLength {
			return status.Errorf(codes.InvalidArgument, "an audience of %d bytes; want 1 to %d", len(a), maxAudienceLength)
		}
	}
	return nil
}

// identity waits for the first SVID.
func (s *Server) identity(ctx context.Context) (*SVID, error) {
	for {
		svid, _, changed := s.source.Documents()
		if svid != nil {
			return svid, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// FetchJWTBundles gives the keys that verify tokens.
func (s *Server) FetchJWTBundles(_ *workload.JWTBundlesRequest, g workload.SpiffeWorkloadAPI_FetchJWTBundlesServer) error {
	return stream(s, g, func(_ *SVID, bundle *spiffebundle.Bundle) (*workload.JWTBundlesResponse, error) {
		if bundle == nil {
			return nil, nil
		}
		keys, err := bundle.JWTBundle().Marshal()
		if err != nil {
			return nil, fmt.Errorf("write the JWT bundle of %s: %w", bundle.TrustDomain(), err)
		}
		return &workload.JWTBundlesResponse{Bundles: map[string][]byte{bundle.TrustDomain().IDString(): keys}}, nil
	})
}

// ValidateJWTSVID says whose a token is. Only tokens of the own trust domain can be valid.
func (s *Server) ValidateJWTSVID(_ context.Context, q *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if q.GetAudience() == "" || q.GetSvid() == "" {
		return nil, status.Error(codes.InvalidArgument, "want both a token and the audience that it must be for")
	}
	_, bundle, _ := s.source.Documents()
	if bundle == nil {
		return nil, status.Error(codes.Unavailable, "no trust bundle yet")
	}
	svid, err := jwtsvid.ParseAndValidate(q.GetSvid(), bundle.JWTBundle(), []string{q.GetAudience()})
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the token is not valid: %v", err)
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the token's claims cannot be given back: %v", err)
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}
