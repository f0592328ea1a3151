package translator_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/translator"
)

// The interpreter does what Envoy does with RBAC messages, as far as ours use them.

var (
	address   = netip.MustParseAddr("10.1.0.1")
	addresses = []netip.Addr{address}
)

// receiver is what a sidecar was told, by the port that is called.
type receiver struct {
	http map[string][]*httprbacv3.RBAC // deny and allow
	// By chain: its RBAC filters, and whether it leads to the application.
	tcp    map[string][]*tcprbacv3.RBAC
	opens  map[string]bool
	names  map[string][]*tlsv3.SubjectAltNameMatcher // that a client's certificate may have
	chains map[string]bool
}

func receiverOf(t *testing.T, r translator.Resources) receiver {
	t.Helper()
	out := receiver{
		http: map[string][]*httprbacv3.RBAC{}, tcp: map[string][]*tcprbacv3.RBAC{}, opens: map[string]bool{},
		names: map[string][]*tlsv3.SubjectAltNameMatcher{}, chains: map[string]bool{},
	}
	for _, rc := range r.Routes {
		for _, name := range []string{"heddle.deny", "heddle.allow"} {
			out.http[rc.Name] = append(out.http[rc.Name], unpack(t, rc.TypedPerFilterConfig[name], &httprbacv3.RBACPerRoute{}).Rbac)
		}
	}
	listener := r.Listeners[0]
	for _, c := range append(listener.FilterChains, listener.DefaultFilterChain) {
		out.chain(t, c)
	}
	return out
}

func (r receiver) chain(t *testing.T, c *listenerv3.FilterChain) {
	t.Helper()
	r.chains[c.Name] = true
	for _, f := range c.Filters {
		switch {
		case f.GetTypedConfig().MessageIs(&tcprbacv3.RBAC{}):
			r.tcp[c.Name] = append(r.tcp[c.Name], unpack(t, f.GetTypedConfig(), &tcprbacv3.RBAC{}))
		case f.GetTypedConfig().MessageIs(&tcpv3.TcpProxy{}):
			r.opens[c.Name] = unpack(t, f.GetTypedConfig(), &tcpv3.TcpProxy{}).GetCluster() != "refused"
		}
	}
	if c.TransportSocket != nil {
		r.names[c.Name] = unpack(t, c.TransportSocket.GetTypedConfig(), &tlsv3.DownstreamTlsContext{}).
			CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames
	}
}

func unpack[M proto.Message](t *testing.T, a *anypb.Any, into M) M {
	t.Helper()
	if err := a.UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
	return into
}

// may says whether a call passes, and whether it would with the shadow rules.
func (r receiver) may(t *testing.T, c call) (passes, audited bool) {
	t.Helper()
	name := fmt.Sprintf("in|%d", c.port)
	chain := name
	if !slices.ContainsFunc([]string{"|http", "|tcp", "|mtls-http", "|mtls-tcp"}, func(s string) bool { return r.chains[name+s] }) {
		chain = "in|any"
	}
	kind := "tcp"
	if c.method != "" {
		kind = "http"
	}
	if c.namespace != "" {
		kind = "mtls-" + kind
	}
	chain += "|" + kind
	if !r.chains[chain] {
		return false, false
	}
	if c.method != "" {
		deny, allow := r.http[name][0], r.http[name][1]
		return judge(deny.Rules, c) && judge(allow.Rules, c), judge(deny.ShadowRules, c) && judge(allow.ShadowRules, c)
	}
	passes, audited = true, true
	for _, f := range r.tcp[chain] {
		passes = passes && judge(f.Rules, c)
		audited = audited && judge(f.ShadowRules, c)
	}
	reaches := r.opens[chain]
	if c.namespace != "" {
		reaches = matchesAny(r.names[chain], c.identity())
	}
	// Who is refused must not reach a server that speaks first, and who passes must.
	if reaches != passes {
		t.Errorf("%+v reaches the server: %v, but may: %v", c, reaches, passes)
	}
	return passes, audited
}

func (c call) identity() string { return "spiffe://cluster.local/ns/" + c.namespace + "/sa/" + c.sa }

func judge(rules *rbacv3.RBAC, c call) bool {
	if rules == nil {
		return true
	}
	matched := false
	for _, p := range rules.Policies {
		matched = matched || slices.ContainsFunc(p.Permissions, func(p *rbacv3.Permission) bool { return permits(p, c) }) &&
			slices.ContainsFunc(p.Principals, func(p *rbacv3.Principal) bool { return isCaller(p, c) })
	}
	return matched == (rules.Action == rbacv3.RBAC_ALLOW)
}

func permits(p *rbacv3.Permission, c call) bool {
	one := func(p *rbacv3.Permission) bool { return permits(p, c) }
	switch rule := p.Rule.(type) {
	case *rbacv3.Permission_Any:
		return rule.Any
	case *rbacv3.Permission_AndRules:
		return !slices.ContainsFunc(rule.AndRules.Rules, func(p *rbacv3.Permission) bool { return !one(p) })
	case *rbacv3.Permission_OrRules:
		return slices.ContainsFunc(rule.OrRules.Rules, one)
	case *rbacv3.Permission_NotRule:
		return !one(rule.NotRule)
	case *rbacv3.Permission_Header:
		return matchHeader(rule.Header, c)
	case *rbacv3.Permission_UrlPath:
		path, _, _ := strings.Cut(c.path, "?")
		return matchString(rule.UrlPath.GetPath(), path)
	}
	panic(fmt.Sprintf("not understood: %v", p))
}

func isCaller(p *rbacv3.Principal, c call) bool {
	switch id := p.Identifier.(type) {
	case *rbacv3.Principal_Any:
		return id.Any
	case *rbacv3.Principal_Authenticated_:
		return c.namespace != "" && matchString(id.Authenticated.PrincipalName, c.identity())
	}
	panic(fmt.Sprintf("not understood: %v", p))
}

func matchHeader(m *routev3.HeaderMatcher, c call) bool {
	value, present := c.override, c.overrideIsPresent && m.Name == "x-http-method-override"
	if m.Name == ":method" {
		value, present = c.method, true
	}
	if m.GetPresentMatch() {
		return present
	}
	return present && matchString(m.GetStringMatch(), value)
}

func matchString(m *matcherv3.StringMatcher, s string) bool {
	switch p := m.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return s == p.Exact
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(s, p.Prefix)
	case *matcherv3.StringMatcher_Contains:
		if m.IgnoreCase {
			return strings.Contains(strings.ToLower(s), strings.ToLower(p.Contains))
		}
		return strings.Contains(s, p.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		return expression(p.SafeRegex.Regex).MatchString(s)
	}
	panic(fmt.Sprintf("not understood: %v", m))
}

// expression compiles each regular expression once; like Envoy it matches the whole.
func expression(re string) *regexp.Regexp {
	if known, ok := expressions.Load(re); ok {
		return known.(*regexp.Regexp)
	}
	compiled := regexp.MustCompile(`\A(?:` + re + `)\z`)
	expressions.Store(re, compiled)
	return compiled
}

var expressions sync.Map

func matchesAny(names []*tlsv3.SubjectAltNameMatcher, identity string) bool {
	return slices.ContainsFunc(names, func(m *tlsv3.SubjectAltNameMatcher) bool {
		return m.SanType == tlsv3.SubjectAltNameMatcher_URI && matchString(m.Matcher, identity)
	})
}
