package mesh

import (
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// field is a part of Traffic that is set, defaulted and lost in a conflict by itself.
type field struct {
	name    model.Field
	written func(*policy.Traffic) bool
	set     func(*model.Traffic, *policy.Traffic)
}

// The fields that need a word of their own somewhere.
const (
	fieldConnection       model.Field = "connection"
	fieldHealthCheck      model.Field = "healthCheck"
	fieldIdleTimeout      model.Field = "idleTimeout"
	fieldLoadBalancer     model.Field = "loadBalancer"
	fieldOutlierDetection model.Field = "outlierDetection"
	fieldRetries          model.Field = "retries"
	fieldRoutes           model.Field = "routes"
)

// trafficFields lists all fields. Those without set need more than the document to be understood.
func trafficFields() []field {
	return []field{
		{
			name:    "timeout",
			written: func(p *policy.Traffic) bool { return p.Timeout != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.Timeout = span(p.Timeout) },
		}, {
			name:    fieldIdleTimeout,
			written: func(p *policy.Traffic) bool { return p.IdleTimeout != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.IdleTimeout = span(p.IdleTimeout) },
		}, {
			name:    fieldRetries,
			written: func(p *policy.Traffic) bool { return p.Retries != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.Retries = retries(p.Retries) },
		}, {
			name:    "circuitBreaker",
			written: func(p *policy.Traffic) bool { return p.CircuitBreaker != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.CircuitBreaker = circuitBreaker(p.CircuitBreaker) },
		}, {
			name:    fieldOutlierDetection,
			written: func(p *policy.Traffic) bool { return p.OutlierDetection != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.Outlier = outlier(p.OutlierDetection) },
		}, {
			name:    fieldHealthCheck,
			written: func(p *policy.Traffic) bool { return p.HealthCheck != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.HealthCheck = healthCheck(p.HealthCheck) },
		}, {
			name:    fieldLoadBalancer,
			written: func(p *policy.Traffic) bool { return p.LoadBalancer != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.LoadBalancer = loadBalancer(p.LoadBalancer) },
		}, {
			name:    fieldConnection,
			written: func(p *policy.Traffic) bool { return p.Connection != nil },
			set:     func(t *model.Traffic, p *policy.Traffic) { t.Connection = connection(p.Connection) },
		}, {
			name:    fieldRoutes,
			written: func(p *policy.Traffic) bool { return len(p.Routes) > 0 },
		},
	}
}

// or gives what was written, else something else.
func or[T any](written *T, otherwise T) T {
	if written != nil {
		return *written
	}
	return otherwise
}

// span gives a duration, 0 if there is none.
func span(written *policy.Duration) time.Duration { return time.Duration(or(written, 0)) }

// spanPtr keeps apart what was not written from a duration of zero.
func spanPtr(written *policy.Duration) *time.Duration {
	if written == nil {
		return nil
	}
	d := time.Duration(*written)
	return &d
}

// words gives words of the language as plain strings.
func words[T ~string](written []T) []string {
	var all []string
	for _, w := range written {
		all = append(all, string(w))
	}
	return all
}
