package mesh

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// healthCheck converts a check. Its port is the Service's, 0 for the first one.
func healthCheck(p *policy.HealthCheck) *model.HealthCheck {
	h := &model.HealthCheck{
		Port:               or(p.Port, 0),
		Path:               p.Path,
		Host:               p.Host,
		Interval:           span(p.Interval),
		Timeout:            span(p.Timeout),
		UnhealthyThreshold: or(p.UnhealthyThreshold, 0),
		HealthyThreshold:   or(p.HealthyThreshold, 0),
	}
	switch {
	case p.GRPC != nil:
		h.Kind, h.GRPCService = model.CheckGRPC, p.GRPC.Service
	case p.TCP != nil:
		h.Kind = model.CheckTCP
	default:
		h.Kind = model.CheckHTTP
		for _, s := range p.Statuses {
			h.Statuses = append(h.Statuses, model.StatusRange{First: s.First, Last: s.Last})
		}
	}
	return h
}
