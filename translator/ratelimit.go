package translator

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// rateLimit is a token bucket that all workers of the server's sidecar share; what finds it empty is answered 429.
func rateLimit(l model.RateLimit, name string) *ratelimitv3.LocalRateLimit {
	always := &corev3.RuntimeFractionalPercent{DefaultValue: percent(100)}
	return &ratelimitv3.LocalRateLimit{
		StatPrefix: statName("limit." + name),
		TokenBucket: &typev3.TokenBucket{
			MaxTokens:     max(l.Burst, l.Requests),
			TokensPerFill: wrapperspb.UInt32(l.Requests),
			FillInterval:  duration(l.Per),
		},
		FilterEnabled:  always,
		FilterEnforced: always,
	}
}
