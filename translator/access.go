package translator

import (
	"regexp"
	"slices"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/model"
)

// accessFilters refuse everything by themselves: an Envoy RBAC filter with rules of which none matches. Who may call
// stands in the route configuration, so that a change of it touches no connection, and what lacks it is refused.
func accessFilters() []*hcmv3.HttpFilter {
	filter := func(name, prefix string) *hcmv3.HttpFilter {
		return httpFilter(name, &httprbacv3.RBAC{
			Rules: &rbacv3.RBAC{}, RulesStatPrefix: prefix, ShadowRulesStatPrefix: auditPrefix + prefix,
		})
	}
	return []*hcmv3.HttpFilter{filter(filterDeny, kindDeny), filter(filterAllow, kindAllow)}
}

// accessOnRoutes is what a route configuration says to the access filters. Rules that are absent mean that nothing is
// enforced, so that is always said and never left out.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/http/rbac/v3/rbac.proto
func accessOnRoutes(a *model.Access, identities string) map[string]*anypb.Any {
	c := compiler{identities: identities}
	deny, allow := &httprbacv3.RBAC{TrackPerRuleStats: true}, &httprbacv3.RBAC{TrackPerRuleStats: true}
	deny.Rules, allow.Rules = c.deny(a), c.allow(a)
	if a != nil && a.Shadow != nil {
		deny.ShadowRules, allow.ShadowRules = c.deny(a.Shadow), c.allow(a.Shadow)
	}
	return map[string]*anypb.Any{
		filterDeny:  typed(&httprbacv3.RBACPerRoute{Rbac: deny}),
		filterAllow: typed(&httprbacv3.RBACPerRoute{Rbac: allow}),
	}
}

// compiler turns rules into Envoy's. It cannot fail.
type compiler struct {
	identities string // how the identity of every workload begins
	tcp        bool   // there are no methods and paths to look at
}

// deny gives the rules of which none may match, nil for no enforcement.
func (c compiler) deny(a *model.Access) *rbacv3.RBAC {
	if a == nil || len(a.Deny) == 0 {
		return nil
	}
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	for _, r := range a.Deny {
		addPolicy(out, r.Code, c.policy(r, deniedMethods, deniedPaths))
	}
	return out
}

// allow gives the rules of which one must match, nil for no enforcement. Without any, nobody passes.
func (c compiler) allow(a *model.Access) *rbacv3.RBAC {
	if a != nil && !a.Closed {
		return nil
	}
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW}
	if a == nil {
		return out
	}
	for _, r := range a.Allow {
		if c.tcp && r.HTTPOnly() {
			continue // what it asks for nobody can show
		}
		addPolicy(out, r.Code, c.policy(r, allowedMethods, allowedPaths))
	}
	return out
}

// addPolicy never replaces a rule by another one of the same code, of which there may be two in four billion.
func addPolicy(out *rbacv3.RBAC, code string, p *rbacv3.Policy) {
	if out.Policies == nil {
		out.Policies = map[string]*rbacv3.Policy{}
	}
	for out.Policies[code] != nil {
		code += "0"
	}
	out.Policies[code] = p
}

// policy renders one rule. On TCP a rule to deny counts without what it says of requests: what cannot be looked at
// might be what it is about.
func (c compiler) policy(r model.AccessRule, methods func([]string) *rbacv3.Permission, paths func([]model.AccessPath) *rbacv3.Permission) *rbacv3.Policy {
	var all []*rbacv3.Permission
	if len(r.Methods) > 0 && !c.tcp {
		all = append(all, methods(r.Methods))
	}
	if len(r.Paths) > 0 && !c.tcp {
		all = append(all, paths(r.Paths))
	}
	return &rbacv3.Policy{Permissions: []*rbacv3.Permission{andRules(all...)}, Principals: c.principals(r.From)}
}

// principals compares the one URI SAN that a certificate of the mesh has. Without a certificate none matches. No two
// segments can be taken for one: a namespace's name has no slash, and the account follows one.
func (c compiler) principals(from []model.Principal) []*rbacv3.Principal {
	if len(from) == 0 {
		return []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}
	}
	var out []*rbacv3.Principal
	for _, p := range from {
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
			Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: identityOf(p, c.identities)},
		}})
	}
	return out
}

// identityOf matches the identities that p stands for.
func identityOf(p model.Principal, identities string) *matcherv3.StringMatcher {
	switch {
	case p.Namespace == "":
		return hasPrefix(identities)
	case p.Account == "":
		return hasPrefix(identities + p.Namespace + "/sa/")
	}
	return exact(identities + p.Namespace + "/sa/" + p.Account)
}

// overrides are the headers by which a request asks frameworks to take it for one with another method. Their spellings
// with underscores never arrive, see foldedHeaders.
func overrides() []string {
	return []string{"x-http-method", "x-http-method-override", "x-method-override"}
}

// deniedMethods matches a request that is, or may be taken for, one of these: many frameworks write methods in capitals
// themselves, and HTTP/2 carries them as they were sent.
func deniedMethods(methods []string) *rbacv3.Permission {
	any := []*rbacv3.Permission{onHeader(header(":method", matches(`(?i)(?:`+alternatives(methods)+`)`)))}
	for _, name := range overrides() {
		any = append(any, onHeader(header(name, matches(`(?is).*(?:`+alternatives(methods)+`).*`))))
	}
	return orRules(any...)
}

// allowedMethods matches a request that is one of these, and does not ask to be taken for another. What it asks for is
// not looked at: Envoy compares each of several headers of one name by itself, and one that is good says nothing of the
// others.
func allowedMethods(methods []string) *rbacv3.Permission {
	all := []*rbacv3.Permission{onHeader(oneOf(":method", methods))}
	for _, name := range overrides() {
		all = append(all, notRule(onHeader(present(name))))
	}
	return andRules(all...)
}

func oneOf(name string, values []string) *routev3.HeaderMatcher {
	if len(values) == 1 {
		return header(name, exact(values[0]))
	}
	return header(name, matches(alternatives(values)))
}

func alternatives(values []string) string {
	quoted := slices.Sorted(slices.Values(values))
	for i := range quoted {
		quoted[i] = regexp.QuoteMeta(quoted[i])
	}
	return strings.Join(quoted, "|")
}

// allowedPaths matches a path as it was written, and below a prefix only one that cannot be taken for another.
func allowedPaths(paths []model.AccessPath) *rbacv3.Permission {
	var any, below []*rbacv3.Permission
	for _, p := range paths {
		if p.Prefix {
			below = append(below, onPath(hasPrefix(p.Path)))
		} else {
			any = append(any, onPath(exact(p.Path)))
		}
	}
	if len(below) > 0 {
		any = append(any, andRules(orRules(below...), notRule(orRules(ambiguousPath()...))))
	}
	return orRules(any...)
}

// deniedPaths matches a path that is, or may be taken for, one of these.
func deniedPaths(paths []model.AccessPath) *rbacv3.Permission {
	var any []*rbacv3.Permission
	for _, p := range paths {
		any = append(any, deniedPath(p))
	}
	return orRules(append(any, ambiguousPath()...)...)
}

// ambiguousPath matches a path of which servers make different ones. Some read two slashes as one, or what stands before
// the second as a host; some read the others as slashes; some drop what follows a semicolon before they follow the two
// dots in "/public/..;/admin". All but the last are merged or answered 400 by guardPaths, but not on a connection from
// before there was a rule on paths: rules count there at once, while it keeps its filter chain until that is drained.
func ambiguousPath() []*rbacv3.Permission {
	var any []*rbacv3.Permission
	for _, part := range []string{"//", `\`, "%2f", "%5c", "/..;"} {
		m := contains(part)
		m.IgnoreCase = part[0] == '%'
		any = append(any, onPath(m))
	}
	return any
}

// deniedPath matches a path in every spelling that a server may take for it: percent-encoded where Envoy leaves that as
// it came (it decodes letters, digits and -._~), and with parameters behind a semicolon (RFC 3986, 3.3), which some
// servers drop.
func deniedPath(p model.AccessPath) *rbacv3.Permission {
	var b strings.Builder
	for i := 0; i < len(p.Path); i++ {
		switch c := p.Path[i]; {
		case c == '/' && i > 0:
			b.WriteString(pathParameters + pathSlash)
		case c == '/':
			b.WriteString(pathSlash)
		case c == '%' && i+2 < len(p.Path) && isHex(p.Path[i+1]) && isHex(p.Path[i+2]):
			b.WriteString(spellings(unhex(p.Path[i+1])<<4 | unhex(p.Path[i+2])))
			i += 2
		default:
			b.WriteString(spellings(c))
		}
	}
	switch {
	case p.Prefix:
		b.WriteString(".*")
	case strings.HasSuffix(p.Path, "/"):
		b.WriteString(`\.?` + pathParameters)
	default:
		b.WriteString(pathParameters)
	}
	return onPath(matches(b.String()))
}

const (
	pathParameters = `(?:;[^/]*)?`
	pathSlash      = `/(?:\.?;[^/]*/)*` // and segments that are nothing but parameters
)

// spellings matches a byte of a path as it is and percent-encoded.
func spellings(c byte) string {
	const digits = "0123456789abcdef"
	encoded := func(d byte) string {
		if d < 10 {
			return digits[d : d+1]
		}
		return "[" + strings.ToUpper(digits[d:d+1]) + digits[d:d+1] + "]"
	}
	switch {
	case isUnreserved(c):
		return regexp.QuoteMeta(string(rune(c)))
	case c <= ' ' || c >= 0x7f:
		return "%" + encoded(c>>4) + encoded(c&15)
	}
	return "(?:" + regexp.QuoteMeta(string(rune(c))) + "|%" + encoded(c>>4) + encoded(c&15) + ")"
}

// isUnreserved says that Envoy decodes c when it normalises a path (RFC 3986, 2.3).
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// rulesOnPathsOf says that what a port lets through depends on the path.
func rulesOnPathsOf(a *model.Access) bool {
	onPath := func(r model.AccessRule) bool { return len(r.Paths) > 0 }
	return a != nil && (slices.ContainsFunc(a.Deny, onPath) || slices.ContainsFunc(a.Allow, onPath))
}

// nameRefusals puts the code of the rule that refuses into the answer. All that Envoy gives to a local reply is how its
// RBAC filter describes the refusal, rbac_access_denied_matched_policy[HDA-1a2b3c4d], or [none] where nothing allows;
// what then refuses stands beside the rules.
func nameRefusals() []*hcmv3.ResponseMapper {
	name := func(refusals, code string) *hcmv3.ResponseMapper {
		return &hcmv3.ResponseMapper{
			Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
				ExtensionFilter: celFilter("response.code_details.startsWith('rbac_access_denied_matched_policy[" + refusals + "')"),
			}},
			HeadersToAdd: []*corev3.HeaderValueOption{{
				Header:       &corev3.HeaderValue{Key: headerAccess, Value: code},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
			BodyFormatOverride: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "access denied: " + code + "\n"}},
			}},
		}
	}
	return []*hcmv3.ResponseMapper{
		name("HDA-", "%CEL(re.capture(response.code_details, '.*(HDA-[0-9a-f]+).*'))%"),
		name("none]", "%METADATA(VIRTUAL_HOST:"+provenanceKey+":"+codeKey+")%"),
	}
}

func andRules(rules ...*rbacv3.Permission) *rbacv3.Permission {
	switch len(rules) {
	case 0:
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	case 1:
		return rules[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: rules}}}
}

func orRules(rules ...*rbacv3.Permission) *rbacv3.Permission {
	if len(rules) == 1 {
		return rules[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: rules}}}
}

func notRule(rule *rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: rule}}
}

func onHeader(m *routev3.HeaderMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: m}}
}

func onPath(m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: m}},
	}}
}
