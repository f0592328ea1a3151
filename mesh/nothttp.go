package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// tellNotHTTP tells writers what they ask of requests, where a Service has none: all its ports carry TCP.
func (j *join) tellNotHTTP(l level) {
	if len(j.service.Ports) == 0 || slices.ContainsFunc(j.service.Ports, func(p model.Port) bool { return p.Protocol != model.TCP }) {
		return
	}
	var numbers []string
	for _, p := range j.service.Ports {
		numbers = append(numbers, fmt.Sprint(p.Number))
	}
	ports := "port " + strings.Join(numbers, ", ")
	if len(numbers) > 1 {
		ports = "ports " + strings.Join(numbers, ", ")
	}
	for _, src := range l {
		for _, key := range httpKeys(src.written) {
			j.tell(src, src.at.Field(string(key)), policy.CodeNotHTTP, "remove it, or correct the name or appProtocol of the Service's ports",
				"has no effect: it is for HTTP, and Service %s carries TCP alone, at %s", j.service.Key, ports)
		}
	}
}

// httpKeys lists the keys of a document that mean nothing for a connection of which nothing but its port is known. A route
// that means nothing as a whole is checkRoute's.
func httpKeys(p *policy.Traffic) []policy.Path {
	var all []policy.Path
	add := func(at policy.Path, written bool) {
		if written {
			all = append(all, at)
		}
	}
	add("timeout", p.Timeout != nil)
	add("retries", p.Retries != nil)
	if cb := p.CircuitBreaker; cb != nil {
		add("circuitBreaker.maxRequests", cb.MaxRequests != nil)
		add("circuitBreaker.maxRetries", cb.MaxRetries != nil)
	}
	if o := p.OutlierDetection; o != nil {
		add("outlierDetection.consecutiveGatewayErrors", or(o.ConsecutiveGatewayErrors, 0) > 0)
		add("outlierDetection.successRate", o.SuccessRate != nil)
	}
	if lb := p.LoadBalancer; lb != nil {
		all = append(all, httpHashes("loadBalancer", lb.HashOn)...)
	}
	if c := p.Connection; c != nil {
		add("connection.maxRequestsPerConnection", c.MaxRequestsPerConnection != nil)
		add("connection.http", c.HTTP != "" && c.HTTP != policy.HTTPAuto)
	}
	for i, r := range p.Routes {
		if len(r.Match) > 0 || len(r.To) == 0 {
			continue
		}
		all = append(all, httpKeysOf(&r, policy.Path("routes").Index(i))...)
	}
	return all
}

// httpKeysOf lists them for a route that splits connections.
func httpKeysOf(r *policy.Route, at policy.Path) []policy.Path {
	var all []policy.Path
	for _, key := range []struct {
		name    string
		written bool
	}{
		{"timeout", r.Timeout != nil}, {"idleTimeout", r.IdleTimeout != nil}, {"retries", r.Retries != nil},
		{"mirror", len(r.Mirror) > 0}, {"fault", r.Fault != nil}, {"rewrite", r.Rewrite != nil},
		{"requestHeaders", r.RequestHeaders != nil}, {"responseHeaders", r.ResponseHeaders != nil},
		{"cors", r.CORS != nil}, {"rateLimit", r.RateLimit != nil}, {"hashOn", len(r.HashOn) > 0},
	} {
		if key.written {
			all = append(all, at.Field(key.name))
		}
	}
	return all
}

// httpHashes lists the entries of a hashOn that are about requests.
func httpHashes(at policy.Path, on []policy.HashOn) []policy.Path {
	var all []policy.Path
	for i, h := range on {
		if !h.SourceIP {
			all = append(all, at.Field("hashOn").Index(i))
		}
	}
	return all
}
