package controlplane

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
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
	if p.judged != nil {
		p.judged.Judged(changed)
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

// errNotReady is the answer to what needs the whole mesh before that is known.
var errNotReady = errors.New("the first listing of the source is not complete")

// Try tells the problems that the documents of a ConfigMap would have, by their keys in its data, if it were applied now:
// those of each by itself, and those beside Services, pods and other policies. Nothing is changed. It fails before the
// mesh is known, and while the control plane stops.
func (p *Plane) Try(ctx context.Context, text *model.PolicyText) (map[string][]policy.Problem, error) {
	if !p.ready.Load() {
		return nil, errNotReady
	}
	namespaces := mesh.NamespacesOf(text)
	var around *mesh.Excerpt
	if err := p.call(ctx, func() { around = p.publisher.state.Excerpt(namespaces) }); err != nil {
		return nil, err
	}
	all := map[string][]policy.Problem{}
	for _, s := range around.Try(text) { // not on the loop, which has no time for it
		all[s.Item] = s.Problems
	}
	return all, nil
}
