package mesh

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// loadBalancer converts how endpoints are chosen. Locality is not part of it: it decides what the endpoints are.
func loadBalancer(p *policy.LoadBalancer) model.LoadBalancer {
	lb := model.LoadBalancer{
		Policy:    balancePolicy(p.Policy),
		HashOn:    hashOn(p.HashOn),
		SlowStart: span(p.SlowStart),
		TableSize: or(p.TableSize, 0),
	}
	if p.PanicThreshold != nil && *p.PanicThreshold > 0 {
		percent := float64(*p.PanicThreshold)
		lb.Panic = &percent
	}
	if ring := p.RingSize; ring != nil {
		lb.RingMin, lb.RingMax = or(ring.Min, 0), or(ring.Max, 0)
	}
	return lb
}

func balancePolicy(p policy.BalancePolicy) model.BalancePolicy {
	switch p {
	case policy.RoundRobin:
		return model.RoundRobin
	case policy.Random:
		return model.Random
	case policy.RingHash:
		return model.RingHash
	case policy.Maglev:
		return model.Maglev
	}
	return model.LeastRequest
}

func hashOn(written []policy.HashOn) []model.HashOn {
	var all []model.HashOn
	for _, p := range written {
		h := model.HashOn{Header: string(p.Header), Query: p.Query, SourceIP: p.SourceIP, Terminal: p.Terminal}
		if cookie := p.Cookie; cookie != nil {
			h.Cookie, h.CookieTTL, h.CookiePath = cookie.Name, span(cookie.TTL), cookie.Path
		}
		all = append(all, h)
	}
	return all
}

// preference is how much closeness to the caller counts: as policy says, else as the Service does. A Service that
// prefers the caller's node prefers its zone after that.
func preference(svc *model.Service, l policy.Locality) model.Preference {
	switch l {
	case policy.LocalityPrefer:
		return max(svc.Prefer, model.PreferZone)
	case policy.LocalityOff:
		return model.PreferNone
	}
	return svc.Prefer
}
