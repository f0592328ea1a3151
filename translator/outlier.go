package translator

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// outlierDetection renders the detectors that policy names and switches the others off: Envoy's are all on.
func outlierDetection(d *model.OutlierDetection) *clusterv3.OutlierDetection {
	if d == nil {
		return nil
	}
	gateway := d.ConsecutiveGatewayErrors
	if gateway == 0 {
		// An application's refused connection arrives as its sidecar's 503. If connection failures are all that counts,
		// outlierErrors lets no other answer through; else an application's own 502, 503 and 504 count the same.
		gateway = d.ConsecutiveLocalOrigin
	}
	out := &clusterv3.OutlierDetection{
		Interval:           optional(d.Interval),
		BaseEjectionTime:   optional(d.BaseEjection),
		MaxEjectionTime:    optional(d.MaxEjection),
		MaxEjectionPercent: wrapperspb.UInt32(d.MaxEjectionPercent),

		Consecutive_5Xx:                        optionalCount(d.Consecutive5xx),
		EnforcingConsecutive_5Xx:               enforced(d.Consecutive5xx > 0),
		ConsecutiveGatewayFailure:              optionalCount(gateway),
		EnforcingConsecutiveGatewayFailure:     enforced(gateway > 0),
		SplitExternalLocalOriginErrors:         d.ConsecutiveLocalOrigin > 0,
		ConsecutiveLocalOriginFailure:          optionalCount(d.ConsecutiveLocalOrigin),
		EnforcingConsecutiveLocalOriginFailure: enforced(d.ConsecutiveLocalOrigin > 0),
		EnforcingSuccessRate:                   enforced(d.SuccessRate != nil),
		EnforcingLocalOriginSuccessRate:        enforced(false),
		EnforcingFailurePercentage:             enforced(false),
		EnforcingFailurePercentageLocalOrigin:  enforced(false),
	}
	if s := d.SuccessRate; s != nil {
		out.SuccessRateMinimumHosts = optionalCount(s.MinimumHosts)
		out.SuccessRateRequestVolume = optionalCount(s.RequestVolume)
		out.SuccessRateStdevFactor = wrapperspb.UInt32(uint32(s.StdevFactor*1000 + 0.5))
	}
	return out
}

// enforced is Envoy's chance, in percent, that a detection ejects.
func enforced(on bool) *wrapperspb.UInt32Value {
	if on {
		return wrapperspb.UInt32(100)
	}
	return wrapperspb.UInt32(0)
}

// onlyLocalOrigin says that policy counts failed connections and no answers. Between sidecars an application's
// refused connection arrives as an answer of its sidecar, marked by headerFailure.
func onlyLocalOrigin(d *model.OutlierDetection) bool {
	return d.ConsecutiveLocalOrigin > 0 && d.Consecutive5xx == 0 && d.ConsecutiveGatewayErrors == 0 && d.SuccessRate == nil
}

// outlierErrors narrows what counts as an error answer, or gives nil for Envoy's rule, any 5xx.
func outlierErrors(d *model.OutlierDetection) *httpv3.HttpProtocolOptions_OutlierDetection {
	if d == nil || !onlyLocalOrigin(d) {
		return nil
	}
	return &httpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: &matcherv3.MatchPredicate{
		Rule: &matcherv3.MatchPredicate_HttpResponseHeadersMatch{HttpResponseHeadersMatch: &matcherv3.HttpHeadersMatch{
			Headers: []*routev3.HeaderMatcher{present(headerFailure)},
		}},
	}}
}
