package controlplane

import (
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/policy"
)

// reportPolicies tells people what became of the policies whose status changed.
func (p *Plane) reportPolicies(changed []mesh.PolicyStatus) {
	for _, s := range changed {
		log := p.log.With().Stringer("policy", s.ConfigMap).Str("item", s.Item).Logger()
		for _, problem := range s.Problems {
			at(log, problem.Severity).Stringer("code", problem.Code).Msg(problem.String())
		}
		switch {
		case s.Gone:
			log.Info().Msg("policy removed")
		case s.Accepted:
			log.Info().Str("hash", s.Hash).Msg("policy accepted")
		case s.Serving != "":
			log.Error().Str("hash", s.Hash).Str("serving", s.Serving).Msg("policy refused: the last good version stays in force")
		default:
			log.Error().Str("hash", s.Hash).Msg("policy refused: it has no effect, and there is no earlier good version")
		}
	}
	if len(changed) > 0 {
		p.countProblems()
	}
}

func at(log zerolog.Logger, s policy.Severity) *zerolog.Event {
	if s == policy.Error {
		return log.Error()
	}
	return log.Warn()
}

// countProblems keeps the metric of problems that hold.
func (p *Plane) countProblems() {
	count := map[policy.Severity]int{policy.Error: 0, policy.Warning: 0}
	for _, s := range p.publisher.state.Policies() {
		for _, problem := range s.Problems {
			count[problem.Severity]++
		}
	}
	for severity, n := range count {
		p.publisher.metrics.problems.WithLabelValues(string(severity)).Set(float64(n))
	}
}
