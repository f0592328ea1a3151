package translator

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// retryPolicy renders r, or nil: in Envoy an absent policy means no retries.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter#x-envoy-retry-on
func retryPolicy(r *model.Retries) *routev3.RetryPolicy {
	if r == nil {
		return nil
	}
	p := &routev3.RetryPolicy{
		RetryOn:              strings.Join(retryOn(r), ","),
		NumRetries:           wrapperspb.UInt32(r.Attempts),
		PerTryTimeout:        optional(r.PerTryTimeout),
		RetriableStatusCodes: r.Statuses,
		RetriableHeaders:     madeUp(r.On),
		RetryBackOff:         &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(r.BackOffBase), MaxInterval: optional(r.BackOffMax)},
		// Another endpoint first: the one that failed is the least likely to do better. Three attempts at choosing, so
		// that a single endpoint is still tried again.
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: typed(&previousv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 3,
	}
	for _, m := range r.Methods {
		p.RetriableRequestHeaders = append(p.RetriableRequestHeaders, header(":method", exact(m)))
	}
	return p
}

// retryOn is r's conditions in Envoy's words, which the policy language shares but for statuses and marked answers.
func retryOn(r *model.Retries) []string {
	var on []string
	for _, c := range r.On {
		on = append(on, string(c))
	}
	if len(r.Statuses) > 0 {
		on = append(on, "retriable-status-codes")
	}
	if madeUp(r.On) != nil {
		on = append(on, "retriable-headers")
	}
	return on
}

// madeUp matches the answers in which a server's sidecar says that its application refused or broke the connection or
// stream, for the conditions that mean just that. Otherwise a sidecar in between would turn a retriable failure into a 503.
func madeUp(on []model.Condition) []*routev3.HeaderMatcher {
	var out []*routev3.HeaderMatcher
	if slices.Contains(on, model.OnConnectFailure) || slices.Contains(on, model.OnReset) {
		out = append(out, header(headerFailure, exact(failureConnect)))
	}
	switch {
	case slices.Contains(on, model.OnReset):
		out = append(out, header(headerFailure, hasPrefix(failureReset)))
	case slices.Contains(on, model.OnRefusedStream):
		out = append(out, header(headerFailure, contains(refusedStream)))
	}
	return out
}
