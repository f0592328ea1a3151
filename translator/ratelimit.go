package translator

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// limitKey is where an inbound route says which limit it counts for, in its metadata and in rate limit descriptors.
const limitKey = "limit"

func limitName(l model.RouteLimit) string { return l.Service.String() + "/" + l.Route }

// rateLimits are the token buckets of a port, which all workers of the server's sidecar share; what finds its bucket
// empty is answered 429. They stand at the virtual host, because Envoy keeps a bucket for each place in a route table
// that configures one, and a limit has several routes: one for each alternative and each protocol of the application.
func rateLimits(limits []model.RouteLimit) map[string]*anypb.Any {
	if len(limits) == 0 {
		return nil
	}
	always := &corev3.RuntimeFractionalPercent{DefaultValue: percent(100)}
	config := &ratelimitv3.LocalRateLimit{
		StatPrefix:     "limit",
		FilterEnabled:  always,
		FilterEnforced: always,
		// Per-route configuration must have a bucket of its own. This one is never used up, nor asked where another is.
		TokenBucket:                     bucket(^uint32(0), ^uint32(0), durationpb.New(time.Second)),
		AlwaysConsumeDefaultTokenBucket: no(),
		RateLimits:                      []*routev3.RateLimit{{Actions: []*routev3.RateLimit_Action{routeLimit()}}},
	}
	seen := map[string]bool{}
	for _, l := range limits {
		name := limitName(l)
		if seen[name] {
			continue // two ports of the Service lead here; Envoy takes no descriptor twice
		}
		seen[name] = true
		config.Descriptors = append(config.Descriptors, &ratelimitcommonv3.LocalRateLimitDescriptor{
			Entries:     []*ratelimitcommonv3.RateLimitDescriptor_Entry{{Key: limitKey, Value: name}},
			TokenBucket: bucket(max(l.Limit.Burst, l.Limit.Requests), l.Limit.Requests, duration(l.Limit.Per)),
		})
	}
	return map[string]*anypb.Any{filterRateLimit: typed(config)}
}

func bucket(size, perFill uint32, every *durationpb.Duration) *typev3.TokenBucket {
	return &typev3.TokenBucket{MaxTokens: size, TokensPerFill: wrapperspb.UInt32(perFill), FillInterval: every}
}

// routeLimit reads from the route that was taken which limit the request counts for; most count for none.
func routeLimit() *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
		DescriptorKey: limitKey,
		MetadataKey: &metadatav3.MetadataKey{Key: provenanceKey, Path: []*metadatav3.MetadataKey_PathSegment{{
			Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: limitKey},
		}}},
		Source:       routev3.RateLimit_Action_MetaData_ROUTE_ENTRY,
		SkipIfAbsent: true,
	}}}
}

// limitedBy marks a route as counting for a limit.
func limitedBy(name string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		provenanceKey: {Fields: map[string]*structpb.Value{limitKey: structpb.NewStringValue(name)}},
	}}
}
