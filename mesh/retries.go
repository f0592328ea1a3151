package mesh

import (
	"slices"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// retries converts a retries block; nil where it says that nothing is retried.
func retries(p *policy.Retries) *model.Retries {
	if p.Attempts == 0 {
		return nil
	}
	r := &model.Retries{Attempts: p.Attempts, PerTryTimeout: span(p.PerTryTimeout)}
	for _, c := range p.On {
		if status, ok := c.Status(); ok {
			r.Statuses = append(r.Statuses, status)
		} else {
			r.On = append(r.On, model.Condition(c))
		}
	}
	if !slices.Contains(p.Methods, "*") {
		r.Methods = words(p.Methods)
	}
	if p.BackOff != nil {
		r.BackOffBase, r.BackOffMax = span(p.BackOff.Base), span(p.BackOff.Max)
	}
	return r
}

// budget converts a retry budget.
func budget(p policy.RetryBudget) *model.RetryBudget {
	return &model.RetryBudget{Percent: float64(or(p.Percent, 0)), MinConcurrency: or(p.MinConcurrency, 0)}
}
