package policy

import (
	"fmt"
	"slices"
)

// Traffic says how callers reach a Service. In the Service's own namespace it holds for all callers; in another
// one, where the Service is named as namespace/name, for the sidecars of that namespace.
type Traffic struct {
	// The Service: a name in the document's own namespace, or namespace/name.
	Service ServiceRef `json:"service"`
	TrafficSettings
	// Requests are sent by the first route that matches, in the order written; what no route matches goes to the Service itself. Up to 256.
	Routes []Route `json:"routes,omitempty"`
}

// TrafficSettings are the parts of a Traffic document that the mesh can have defaults for. Each of them is taken
// as a whole: a retries block replaces a default retries block and is not merged with it.
type TrafficSettings struct {
	// Time for a whole request, retries included, until its response is complete; 0s for none.
	Timeout *Duration `json:"timeout,omitempty" range:"0s.."`
	// A stream or TCP connection on which no byte moved for this long is ended; 0s for never.
	IdleTimeout *Duration `json:"idleTimeout,omitempty" range:"0s.."`
	// Repeats failed requests. Without it nothing is retried.
	Retries *Retries `json:"retries,omitempty"`
	// Bounds what one sidecar sends to the Service at once. Without it there is no bound.
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// Takes failing endpoints out of use for a while, by what each caller sees. Without it none is.
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// Has each pod's own sidecar check its application; every caller avoids pods that fail.
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// Chooses among healthy endpoints.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// How connections to endpoints are made and kept.
	Connection *Connection `json:"connection,omitempty"`
}

func (t *Traffic) validate(at Path, p *problems) {
	t.TrafficSettings.validate(at, p)
	if n := len(t.Routes); n > maxRoutes {
		p.add(at.Field("routes"), CodeRange, fmt.Sprintf("write up to %d", maxRoutes), "the document has %d routes", n)
	}
	retries := t.Retries != nil
	names := map[string]int{}
	for i := range t.Routes {
		r := &t.Routes[i]
		retries = retries || r.Retries != nil
		if lb := t.LoadBalancer; lb != nil && !lb.hashes() && r.HashOn != nil && r.To == nil {
			p.addKey(at.Field("routes").Index(i).Field("hashOn"), CodeIgnoredField, "write loadBalancer: {policy: ring-hash, hashOn: ...}",
				"has no effect with %s", WithDefaults(*lb).Policy)
		}
		r.checkTries(t.TrafficSettings, at.Field("routes").Index(i), p)
		if j, taken := names[r.Name]; taken && r.Name != "" {
			p.add(at.Field("routes").Index(i).Field("name"), CodeRouteName, "choose another name", "routes[%d] is also called %q", j, clip(r.Name))
		} else {
			names[r.Name] = i
		}
	}
	if cb := t.CircuitBreaker; cb != nil && cb.MaxRetries != nil && !retries {
		p.add(at.Field("circuitBreaker").Field("maxRetries"), CodeIgnoredField, "write retries, or leave maxRetries out", "bounds nothing without retries")
	}
	checkReach(t.Routes, at.Field("routes"), p)
	t.checkForeign(at, p)
}

// checkForeign tells what a caller's namespace cannot decide: what the Service's own pods do.
func (t *Traffic) checkForeign(at Path, p *problems) {
	own := p.src.Namespace
	if own == "" || t.Service.Namespace == "" || t.Service.Namespace == own {
		return
	}
	const hint = "write it in the Service's own namespace"
	if t.HealthCheck != nil {
		p.addKey(at.Field("healthCheck"), CodeIgnoredField, hint, "has no effect from namespace %s, since pods of %s run it", own, t.Service.Namespace)
	}
	for i, r := range t.Routes {
		if r.RateLimit != nil {
			p.addKey(at.Field("routes").Index(i).Field("rateLimit"), CodeIgnoredField, hint,
				"has no effect from namespace %s, since pods of %s enforce it", own, t.Service.Namespace)
		}
		for j, m := range r.Match {
			outside := func(c Caller) bool { return c.Namespace != "" && c.Namespace != own }
			if len(m.From) > 0 && !slices.ContainsFunc(m.From, func(c Caller) bool { return !outside(c) }) {
				p.addKey(at.Field("routes").Index(i).Field("match").Index(j).Field("from"), CodeUnreachable, "name callers of namespace "+own,
					"never matches, since this document holds for callers in %s", own)
			}
		}
	}
}

func (t *TrafficSettings) validate(at Path, p *problems) {
	if t.Retries != nil && t.Retries.Budget != nil && t.CircuitBreaker != nil && t.CircuitBreaker.MaxRetries != nil {
		p.addKey(at.Field("retries").Field("budget"), CodeBudget, "keep one of them", "excludes circuitBreaker.maxRetries: both bound the retries in flight")
	}
	t.checkBreaker(at.Field("circuitBreaker"), p)
	checkTry(t.Retries, t.Timeout, at.Field("retries"), p)
}

// checkBreaker tells bounds that do not hold back HTTP between sidecars, which shares connections.
func (t *TrafficSettings) checkBreaker(at Path, p *problems) {
	cb := t.CircuitBreaker
	if cb == nil || p.wrote(at.Field("maxRequests")) {
		return
	}
	const hint = "write maxRequests to bound HTTP"
	// maxPendingRequests beside maxConnectionsPerEndpoint says how many TCP connections may wait for their turn.
	http := t.Retries != nil || t.Timeout != nil || cb.MaxRetries != nil ||
		cb.MaxPendingRequests != nil && cb.MaxConnectionsPerEndpoint == nil
	if cb.MaxPendingRequests != nil && http {
		p.addKey(at.Field("maxPendingRequests"), CodeBreakerHTTP2, hint,
			"between sidecars HTTP is HTTP/2, where requests rarely wait for a connection")
	}
	if cb.MaxConnections != nil && http {
		p.addKey(at.Field("maxConnections"), CodeBreakerHTTP2, hint,
			"between sidecars HTTP is HTTP/2, where a connection carries any number of requests; this bounds TCP only")
	}
	if cb.MaxConnectionsPerEndpoint != nil && http {
		p.addKey(at.Field("maxConnectionsPerEndpoint"), CodeBreakerHTTP2, hint,
			"between sidecars HTTP is HTTP/2, where a connection carries any number of requests; this bounds TCP only")
	}
}

// checkTry tells a try that may last as long as the whole request, so that no further one would fit.
func checkTry(r *Retries, timeout *Duration, at Path, p *problems) {
	if r == nil || r.PerTryTimeout == nil || timeout == nil || *timeout == 0 || *r.PerTryTimeout < *timeout {
		return
	}
	p.add(at.Field("perTryTimeout"), CodeTryTimeout, "write less than the timeout",
		"%s leaves no time for a further try within the timeout of %s", *r.PerTryTimeout, *timeout)
}
