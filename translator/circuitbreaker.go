package translator

import (
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddle-mesh/heddle/model"
)

// circuitBreakers renders a Service's bounds. What policy does not bound is unbounded: Envoy by itself would stop at
// 1,024 connections, pending requests and requests, and at 3 retries at a time.
func circuitBreakers(t *model.Traffic) *clusterv3.CircuitBreakers {
	b := t.CircuitBreaker
	threshold := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     bound(b.MaxConnections),
		MaxPendingRequests: bound(b.MaxPendingRequests),
		MaxRequests:        bound(b.MaxRequests),
		MaxRetries:         bound(b.MaxRetries),
		TrackRemaining:     b != model.CircuitBreaker{},
	}
	if t.Budget != nil {
		threshold.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent:       &typev3.Percent{Value: t.Budget.Percent},
			MinRetryConcurrency: wrapperspb.UInt32(t.Budget.MinConcurrency),
		}
	}
	out := &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{threshold}}
	if b.MaxConnectionsPerEndpoint > 0 {
		out.PerHostThresholds = []*clusterv3.CircuitBreakers_Thresholds{{MaxConnections: bound(b.MaxConnectionsPerEndpoint)}}
	}
	return out
}

// unlimited is no bound at all.
func unlimited() *clusterv3.CircuitBreakers { return circuitBreakers(&model.Traffic{}) }

func bound(n uint32) *wrapperspb.UInt32Value {
	if n == 0 {
		return wrapperspb.UInt32(math.MaxUint32)
	}
	return wrapperspb.UInt32(n)
}
