package translator

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/heddle-mesh/heddle/model"
)

// tcpAccess are the filters of a TCP chain that decide who may call. Envoy asks them at the client's first byte, when a
// server that speaks first has long spoken: tcpPrincipals and tcpTakesAnybody keep that from those who may not call.
func tcpAccess(prefix string, a *model.Access, identities string) []*listenerv3.Filter {
	c := compiler{identities: identities, tcp: true}
	var shadow *model.Access
	if a != nil {
		shadow = a.Shadow
	}
	var out []*listenerv3.Filter
	add := func(name, kind, audited string, rules, audit *rbacv3.RBAC) {
		switch {
		case rules == nil && audit == nil:
			return // nothing to ask for
		case audit == nil:
			audited = ""
		}
		out = append(out, &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(&tcprbacv3.RBAC{
			StatPrefix: prefix + "." + kind + ".", Rules: rules,
			ShadowRules: audit, ShadowRulesStatPrefix: audited,
		})}})
	}
	var denied, refused *rbacv3.RBAC
	if shadow != nil {
		denied, refused = c.deny(shadow), c.allow(shadow)
	}
	add(filterDeny, kindDeny, tcpAudit(kindDeny), c.deny(a), denied)
	add(filterAllow, kindAllow, tcpAudit(unmatchedCode(shadow)), c.allow(a), refused)
	return out
}

// tcpAudit is under which prefix a TCP filter says what it would refuse, in statistics and as metadata. Where nothing
// allows it has the code, which Envoy's filter for TCP does not know otherwise.
func tcpAudit(what string) string { return auditPrefix + what + "_" }

// tcpOrigins are the documents whose rules a TCP chain is made of.
func tcpOrigins(a *model.Access) []model.Origin {
	if a == nil {
		return nil
	}
	var out []model.Origin
	for _, r := range slices.Concat(a.Deny, a.Allow) {
		if !slices.Contains(out, r.Origin) {
			out = append(out, r.Origin)
		}
	}
	for _, o := range tcpOrigins(a.Shadow) {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// tcpTakesAnybody says that somebody who proves no identity may use a TCP port.
func tcpTakesAnybody(a *model.Access) bool {
	all := func(r model.AccessRule) bool { return len(r.From) == 0 }
	if a == nil || slices.ContainsFunc(a.Deny, all) {
		return false
	}
	return !a.Closed || slices.ContainsFunc(a.Allow, func(r model.AccessRule) bool { return all(r) && !r.HTTPOnly() })
}

// tcpPrincipals matches the identities that may use a TCP port, for the validation of the client's certificate, so that
// nobody else gets a byte. Nil stands for everybody in the trust domain.
func tcpPrincipals(a *model.Access, trustDomain string) []*matcherv3.StringMatcher {
	identities := "spiffe://" + trustDomain + "/ns/"
	denied := deniedOnTCP(a)
	nobody := []*matcherv3.StringMatcher{exact(identities)} // of whom no certificate is made out
	if a == nil || denied.all {
		return nobody
	}
	allowed := principals{all: !a.Closed}
	for _, r := range a.Allow {
		if a.Closed && !r.HTTPOnly() {
			allowed.add(r.From)
		}
	}
	if allowed.all {
		if denied.empty() {
			return nil
		}
		return denied.others(identities)
	}
	var out []*matcherv3.StringMatcher
	for _, namespace := range slices.Sorted(maps.Keys(allowed.namespaces)) {
		switch accounts := denied.accounts[namespace]; {
		case denied.namespaces[namespace]:
		case len(accounts) == 0:
			out = append(out, identityOf(model.Principal{Namespace: namespace}, identities))
		default:
			out = append(out, otherAccounts(identities, namespace, accounts)...)
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(allowed.accounts)) {
		if allowed.namespaces[namespace] || denied.namespaces[namespace] {
			continue
		}
		for _, account := range slices.Sorted(maps.Keys(allowed.accounts[namespace])) {
			if !denied.accounts[namespace][account] {
				out = append(out, identityOf(model.Principal{Namespace: namespace, Account: account}, identities))
			}
		}
	}
	if len(out) == 0 {
		return nobody
	}
	return out
}

func deniedOnTCP(a *model.Access) (denied principals) {
	if a != nil {
		for _, r := range a.Deny {
			denied.add(r.From)
		}
	}
	return denied
}

// principals is a set of identities.
type principals struct {
	all        bool
	namespaces map[string]bool
	accounts   map[string]map[string]bool // by namespace
}

// add adds those that a rule names; nobody in particular is everybody.
func (s *principals) add(from []model.Principal) {
	s.all = s.all || len(from) == 0
	if s.namespaces == nil {
		s.namespaces, s.accounts = map[string]bool{}, map[string]map[string]bool{}
	}
	for _, p := range from {
		switch {
		case p.Namespace == "":
			s.all = true
		case p.Account == "":
			s.namespaces[p.Namespace] = true
		case s.accounts[p.Namespace] == nil:
			s.accounts[p.Namespace] = map[string]bool{p.Account: true}
		default:
			s.accounts[p.Namespace][p.Account] = true
		}
	}
}

func (s *principals) empty() bool { return !s.all && len(s.namespaces) == 0 && len(s.accounts) == 0 }

// others matches all identities that are not in the set.
func (s *principals) others(identities string) []*matcherv3.StringMatcher {
	named := slices.Collect(maps.Keys(s.namespaces))
	var out []*matcherv3.StringMatcher
	for _, namespace := range slices.Sorted(maps.Keys(s.accounts)) {
		if s.namespaces[namespace] {
			continue
		}
		named = append(named, namespace)
		out = append(out, otherAccounts(identities, namespace, s.accounts[namespace])...)
	}
	out = append(out, bounded(regexp.QuoteMeta(identities)+otherThan(named)+`/sa/[-.\w]+`)...)
	if len(out) == 0 {
		return []*matcherv3.StringMatcher{exact(identities)}
	}
	return out
}

// otherAccounts matches the accounts of a namespace but these.
func otherAccounts(identities, namespace string, accounts map[string]bool) []*matcherv3.StringMatcher {
	return bounded(regexp.QuoteMeta(identities+namespace+"/sa/") + otherThan(slices.Collect(maps.Keys(accounts))))
}

// bounded gives an expression up to the size that every Envoy takes. Whoever denies more accounts than fit into one
// denies all that it stood for; a policy that allows is the better one then.
func bounded(expression string) []*matcherv3.StringMatcher {
	const most = 300_000 // bytes; RE2 has room for twice as many
	if len(expression) > most {
		return nil
	}
	return []*matcherv3.StringMatcher{matches(expression)}
}

// segment is what a segment of an identity consists of (SPIFFE-ID, 2.2), in the order of bytes.
const segment = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// otherThan is an RE2 expression for every segment that is none of these words: RE2 has no negation, so it branches at
// each character in which the words and others part.
func otherThan(words []string) string {
	words = slices.Compact(slices.Sorted(slices.Values(words)))
	if len(words) == 0 {
		return `[-.\w]*`
	}
	ends := words[0] == "" // here ends a word, so the segment must go on
	if ends {
		words = words[1:]
	}
	var heads []byte
	tails := map[byte][]string{}
	for _, w := range words {
		if tails[w[0]] == nil {
			heads = append(heads, w[0])
		}
		tails[w[0]] = append(tails[w[0]], w[1:])
	}
	var branches []string
	if others := charactersBut(heads); others != "" {
		branches = append(branches, others+`[-.\w]*`)
	}
	for _, c := range heads {
		branches = append(branches, regexp.QuoteMeta(string(rune(c)))+otherThan(tails[c]))
	}
	all := "(?:" + strings.Join(branches, "|") + ")"
	if !ends {
		all += "?"
	}
	return all
}

// charactersBut is an RE2 class of the characters of segments without some, in ranges: the negation of a class would
// have room for all of Unicode, at twenty times the cost.
func charactersBut(some []byte) string {
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		first := segment[i]
		if slices.Contains(some, first) {
			continue
		}
		for i+1 < len(segment) && segment[i+1] == segment[i]+1 && !slices.Contains(some, segment[i+1]) {
			i++
		}
		b.WriteString(regexp.QuoteMeta(string(rune(first))))
		if last := segment[i]; last != first {
			b.WriteString("-" + string(rune(last)))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "[" + b.String() + "]"
}
