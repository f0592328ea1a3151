package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBody is what Envoy takes of a direct response (RouteConfiguration.max_direct_response_body_size_bytes).
const maxBody = 4096

// Each target may become a cluster in every sidecar, so that one document must not name them by the thousand.
const (
	maxRoutes  = 256 // of a document
	maxTargets = 32  // of a route; their weights add up to less than Envoy's bound
)

func (r *Route) validate(at Path, p *problems) {
	if r.Retries != nil && r.Retries.Budget != nil {
		p.addKey(at.Field("retries").Field("budget"), CodeRouteBudget, "write it in the Traffic's own retries", "is the Service's, over all its routes")
	}
	if r.Name != "" && (!isLabelText(r.Name) || strings.Contains(r.Name, ".")) {
		p.add(at.Field("name"), CodeName, "write up to 63 letters, digits, - and _: it is a name in metrics", "%q cannot be a route's name", clip(r.Name))
	}
	if n := len(r.To) + len(r.Mirror); n > maxTargets {
		p.add(at, CodeRange, fmt.Sprintf("write up to %d", maxTargets), "the route has %d targets, to and mirror together", n)
	}
	checkWeights(r.To, at.Field("to"), p)
	r.checkPrefix(at, p)
	r.checkEffect(at, p)
	if r.RateLimit != nil && r.Rewrite != nil {
		p.addKey(at.Field("rateLimit"), CodeLimitRewrite, "limit a route that does not rewrite",
			"the server's sidecar counts requests as they arrive there, which is after the rewrite")
	}
}

// checkWeights holds a split to weights that share something out.
func checkWeights(to []Target, at Path, p *problems) {
	var sum uint64
	var with, without []int
	for i, t := range to {
		if !p.wrote(at.Index(i).Field("weight")) {
			without = append(without, i)
			continue
		}
		with = append(with, i)
		if t.Weight == nil {
			return // a problem already
		}
		sum += uint64(*t.Weight)
	}
	switch {
	case len(with) > 0 && len(without) > 0:
		p.add(at.Index(without[0]), CodeWeightless, "write a weight for each", "has no weight beside others that do, and gets 1")
	case len(with) > 0 && sum == 0:
		p.add(at, CodeWeights, "write a weight above 0", "the weights sum to 0, so that no request has a target")
	}
}

// checkPrefix refuses to replace a prefix where the route matches none.
func (r *Route) checkPrefix(at Path, p *problems) {
	replace := Path("")
	switch {
	case r.Rewrite != nil && r.Rewrite.Prefix != "":
		replace = at.Field("rewrite").Field("prefix")
	case r.Redirect != nil && r.Redirect.Prefix != "":
		replace = at.Field("redirect").Field("prefix")
	default:
		return
	}
	without := slices.IndexFunc(r.Match, func(m Match) bool { return m.Path == nil || m.Path.Prefix == "" })
	if len(r.Match) == 0 || without >= 0 {
		what := "the route has no match"
		if without >= 0 {
			what = fmt.Sprintf("match[%d] has no path.prefix", without)
		}
		p.addKey(replace, CodePrefix, "match path: {prefix: ...}, or replace the whole path", "replaces the matched prefix, but %s", what)
	}
}

// checkEffect tells what is written in vain beside an answer that the caller's sidecar gives by itself.
func (r *Route) checkEffect(at Path, p *problems) {
	answer := ""
	switch {
	case r.Redirect != nil:
		answer = "redirect"
	case r.DirectResponse != nil:
		answer = "directResponse"
	default:
		return
	}
	for _, key := range []string{"timeout", "idleTimeout", "retries", "mirror", "rewrite", "requestHeaders", "rateLimit", "hashOn"} {
		if p.wrote(at.Field(key)) {
			p.addKey(at.Field(key), CodeIgnoredField, "leave it out", "has no effect beside %s, which sends nothing on", answer)
		}
	}
}

// checkTries looks at the route's tries within the time that it has.
func (r *Route) checkTries(service TrafficSettings, at Path, p *problems) {
	timeout, retries, where := r.Timeout, r.Retries, at.Field("retries")
	if timeout == nil && retries == nil {
		return // told of the Service
	}
	if timeout == nil {
		timeout = service.Timeout
	}
	if retries == nil {
		retries, where = service.Retries, "retries"
	}
	checkTry(retries, timeout, where, p)
}

// checkReach tells what no request reaches, because an earlier route takes everything or just the same.
func checkReach(routes []Route, at Path, p *problems) {
	const everything = ""
	taken := map[string]int{}
	take := func(i int, what string, at Path) {
		by, ok := taken[everything]
		if !ok {
			by, ok = taken[what]
		}
		if !ok {
			taken[what] = i
		} else if by != i {
			p.add(at, CodeUnreachable, "put it before that route, or remove it", "no request gets here: routes[%d] takes it before", by)
		}
	}
	for i, r := range routes {
		at := at.Index(i)
		if len(r.Match) == 0 && !p.wrote(at.Field("match")) {
			take(i, everything, at)
		}
		for j, m := range r.Match {
			at := at.Field("match").Index(j)
			n := p.nodes[at]
			all := len(n.Content) == 0 || len(n.Content) == 2 && m.Path != nil && m.Path.Prefix == "/"
			if n.Kind == yaml.MappingNode && all {
				take(i, everything, at)
			} else {
				take(i, contentHash(n), at)
			}
		}
	}
}

func (r *DirectResponse) validate(at Path, p *problems) {
	if len(r.Body) > maxBody {
		p.add(at.Field("body"), CodeRange, fmt.Sprintf("write up to %d", maxBody), "the body has %d bytes", len(r.Body))
	}
}

func (l *RateLimit) validate(at Path, p *problems) {
	if l.Burst != nil && *l.Burst < l.Requests {
		p.add(at.Field("burst"), CodeOrder, "write at least as much as requests", "burst %d is below requests %d, so that they could never come at once", *l.Burst, l.Requests)
	}
}
