package mesh

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

func circuitBreaker(p *policy.CircuitBreaker) model.CircuitBreaker {
	return model.CircuitBreaker{
		MaxConnections:            or(p.MaxConnections, 0),
		MaxPendingRequests:        or(p.MaxPendingRequests, 0),
		MaxRequests:               or(p.MaxRequests, 0),
		MaxRetries:                or(p.MaxRetries, 0),
		MaxConnectionsPerEndpoint: or(p.MaxConnectionsPerEndpoint, 0),
	}
}
