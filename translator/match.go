package translator

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/heddle-mesh/heddle/model"
)

// routeMatches renders one alternative. Callers are alternatives of their own, which Envoy cannot express inside one
// match, so each gives a match.
func routeMatches(m model.Match) []*routev3.RouteMatch {
	if len(m.From) == 0 {
		return []*routev3.RouteMatch{routeMatch(m, nil)}
	}
	var out []*routev3.RouteMatch
	for _, c := range m.From {
		out = append(out, routeMatch(m, callerMatch(c)))
	}
	return out
}

func routeMatch(m model.Match, from []*matcherv3.FilterStateMatcher) *routev3.RouteMatch {
	r := anyPath()
	matchPath(r, m.Path)
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, headerMatch(h))
	}
	if len(m.Methods) > 0 {
		r.Headers = append(r.Headers, methods(m.Methods))
	}
	for _, q := range m.Query {
		r.QueryParameters = append(r.QueryParameters, queryMatch(q))
	}
	r.FilterState = from
	return r
}

func anyPath() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

func matchPath(r *routev3.RouteMatch, p *model.PathMatch) {
	switch {
	case p == nil:
	case p.Exact != "":
		r.PathSpecifier = &routev3.RouteMatch_Path{Path: p.Exact}
	case p.Regex != "":
		r.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(p.Regex)}
	case strings.Trim(p.Prefix, "/") != "":
		// On segment boundaries: Envoy's plain prefix /v2 would take /v20 too.
		r.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: strings.TrimRight(p.Prefix, "/")}
	}
}

func methods(m []string) *routev3.HeaderMatcher {
	if len(m) == 1 {
		return header(":method", exact(m[0]))
	}
	sorted := slices.Sorted(slices.Values(m))
	return header(":method", matches(strings.Join(sorted, "|")))
}

func header(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value}}
}

func present(name string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
}

func headerMatch(v model.ValueMatch) *routev3.HeaderMatcher {
	name := strings.ToLower(v.Name)
	switch v.Kind {
	case model.ValuePresent:
		return present(name)
	case model.ValueAbsent:
		m := present(name)
		m.InvertMatch = true
		return m
	}
	return header(name, valueMatch(v))
}

func queryMatch(v model.ValueMatch) *routev3.QueryParameterMatcher {
	m := &routev3.QueryParameterMatcher{Name: v.Name}
	switch v.Kind {
	case model.ValuePresent, model.ValueAbsent:
		m.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: v.Kind == model.ValuePresent}
	default:
		m.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: valueMatch(v)}
	}
	return m
}

func valueMatch(v model.ValueMatch) *matcherv3.StringMatcher {
	switch v.Kind {
	case model.ValuePrefix:
		return hasPrefix(v.Value)
	case model.ValueRegex:
		return matches(v.Value)
	}
	return exact(v.Value)
}

// callerMatch looks at what the sidecar says of its own pod: ns=<namespace>;sa=<account>;l=<key>=<value>;...
func callerMatch(c model.Caller) []*matcherv3.FilterStateMatcher {
	var out []*matcherv3.FilterStateMatcher
	add := func(value *matcherv3.StringMatcher) {
		out = append(out, &matcherv3.FilterStateMatcher{
			Key:     callerKey,
			Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: value},
		})
	}
	if c.Namespace != "" {
		add(hasPrefix("ns=" + c.Namespace + ";"))
	}
	if c.Account != "" {
		add(contains(";sa=" + c.Account + ";"))
	}
	for _, l := range c.Labels {
		add(contains(";l=" + l.Key + "=" + l.Value + ";"))
	}
	return out
}
