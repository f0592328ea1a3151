package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// inbound is a port of a pod with what its Services ask of its sidecar.
type inbound struct {
	port    model.InboundPort
	check   *model.HealthCheck
	notices []Notice
}

// receive says how a pod's port is received, from the Services that send to it, the oldest first, and from what
// the pod declares.
func receive(number uint16, declared model.PodPort, targets []target) inbound {
	in := inbound{port: model.InboundPort{Number: number}}
	in.setProtocol(declared, targets)
	var seen []*service
	for _, t := range targets {
		in.setCheck(t)
		if slices.Contains(seen, t.svc) {
			continue // two ports of a Service may have one target
		}
		seen = append(seen, t.svc)
		in.port.Services = append(in.port.Services, t.svc.fact.Key)
		if in.port.Protocol != model.TCP {
			in.port.Limits = append(in.port.Limits, limits(t.svc)...)
		}
		in.setFromTraffic(t.svc.traffic[""].traffic)
	}
	slices.SortFunc(in.port.Services, model.Key.Compare)
	in.port.IdleTimeout = idleTimeout(seen)
	return in
}

// setProtocol picks the protocol. One that is declared wins over one that is known by the number, and this over
// detection; a Service's word wins over the pod's, and an older Service's over a younger one's.
func (in *inbound) setProtocol(pod model.PodPort, targets []target) {
	best, winner := model.PodPort{}, model.Key{}
	for _, t := range targets {
		said := model.PodPort{Protocol: t.port.Protocol, Declared: t.port.Declared}
		if certainty(said) > certainty(best) {
			best, winner = said, t.svc.fact.Key
		}
	}
	if certainty(pod) > certainty(best) {
		best = pod
	}
	in.port.Protocol, in.port.Declared = best.Protocol, best.Declared
	for _, t := range targets {
		if t.port.Declared && t.port.Protocol != best.Protocol {
			in.notices = append(in.notices, serviceNotice(t.svc.fact.Key, fmt.Sprintf(
				"port %d is declared %s, but Service %s, which is older, declares the same port %d of its pods %s, and so it is received; declare the same in both",
				t.port.Number, t.port.Protocol, winner, in.port.Number, best.Protocol)))
		}
	}
}

// certainty is how well a port's protocol is known.
func certainty(p model.PodPort) int {
	switch {
	case p.Declared:
		return 2
	case p.Protocol != model.Detect:
		return 1
	}
	return 0
}

// setFromTraffic takes what the policy of one more Service asks for.
func (in *inbound) setFromTraffic(t *model.Traffic) {
	if t.Outlier != nil {
		in.setStreaks(t.Outlier)
	}
	if in.port.HTTP == model.HTTPAuto {
		in.port.HTTP = t.Connection.HTTP
	}
	for _, f := range []model.Field{fieldIdleTimeout, fieldOutlierDetection, fieldConnection} {
		if o := t.Origin(f); !o.IsZero() && !slices.Contains(in.port.Origins, o) {
			in.port.Origins = append(in.port.Origins, o)
		}
	}
}

// setStreaks takes what one more Service asks to be told of. The shortest streak holds, and the ejection that goes with it.
func (in *inbound) setStreaks(o *model.OutlierDetection) {
	connect := o.ConsecutiveLocalOrigin
	if connect == 0 {
		connect = o.Consecutive5xx // which includes failed connections, where these are not counted apart
	}
	shorten := func(streak *uint32, by uint32) {
		if by > 0 && (*streak == 0 || by < *streak) {
			*streak, in.port.Ejection = by, o.BaseEjection
		}
	}
	if in.port.Protocol != model.TCP {
		shorten(&in.port.Streak, o.Consecutive5xx)
	}
	if !in.port.Protocol.IsHTTP() {
		shorten(&in.port.ConnectStreak, connect)
	}
}

// setCheck takes the health check that a Service has for this port. There is one per port, the oldest Service's.
func (in *inbound) setCheck(t target) {
	traffic := t.svc.traffic[""].traffic
	if traffic.HealthCheck == nil || checkedPort(t.svc.fact, traffic.HealthCheck) != t.port.Number {
		return
	}
	check := *traffic.HealthCheck
	check.Port, check.Origin = in.port.Number, traffic.Origin(fieldHealthCheck)
	if check.Kind == model.CheckHTTP {
		check.Host = cmp.Or(check.Host, t.svc.fact.Key.Name)
	}
	if in.check == nil {
		in.check = &check
	} else if in.check.Origin != check.Origin {
		in.notices = append(in.notices, serviceNotice(t.svc.fact.Key, fmt.Sprintf(
			"its health check has no effect: port %d of its pods is checked as ConfigMap %s says for an older Service",
			in.port.Number, in.check.Origin.Key)))
	}
}

// checkedPort is the Service port that a check means.
func checkedPort(svc *model.Service, check *model.HealthCheck) uint16 {
	if check.Port == 0 && len(svc.Ports) > 0 {
		return svc.Ports[0].Number
	}
	return check.Port
}

// limits gives the rate limits of a Service's routes. Behind a route that takes everything none is reached.
func limits(svc *service) []model.RouteLimit {
	traffic := svc.traffic[""].traffic
	var all []model.RouteLimit
	var unless []model.Match
	for _, r := range traffic.Routes {
		if r.RateLimit != nil {
			all = append(all, model.RouteLimit{
				Service: svc.fact.Key, Route: r.Name, Matches: r.Matches, Unless: slices.Clone(unless),
				Limit: *r.RateLimit, Origin: traffic.Origin(fieldRoutes),
			})
		} else {
			unless = append(unless, r.Matches...)
		}
		if len(r.Matches) == 0 {
			break
		}
	}
	return all
}

// idleTimeout is the longest that any caller may count on, since the server's sidecar does not know which policy the
// caller has: none at all if one of them has none.
func idleTimeout(services []*service) time.Duration {
	var longest time.Duration
	for _, svc := range services {
		for _, r := range svc.traffic {
			all := []time.Duration{r.traffic.IdleTimeout}
			for _, route := range r.traffic.Routes {
				if route.IdleTimeout != nil {
					all = append(all, *route.IdleTimeout)
				}
			}
			if slices.Contains(all, 0) {
				return 0
			}
			longest = max(longest, slices.Max(all))
		}
	}
	return longest
}
