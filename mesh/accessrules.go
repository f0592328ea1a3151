package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// rules collects what documents say of one port.
type rules struct {
	join    *joinAccess
	port    *model.InboundPort
	origins []model.Origin
	// What is enforced, and what is only counted.
	enforced, audited ruleSet
}

// ruleSet is what the documents of one mode say.
type ruleSet struct {
	deny, allow []model.AccessRule
	allowing    []policy.Place // the documents that allow; if there is one, all others are refused
	fallback    *accessPart    // the document whose default counts
}

// add takes what a document says, names being what it may call the port.
func (a *rules) add(p *accessPart, names []policy.Port) {
	if p.says == nil {
		a.enforced.deny = append(a.enforced.deny, model.AccessRule{Code: p.place().RuleCode(""), Origin: p.wherefrom()})
		return
	}
	set, mode := &a.enforced, p.says.Mode
	if mode == "" {
		mode = a.join.defaults.mode
	}
	if mode == policy.ModeAudit {
		set = &a.audited
	}
	if p.says.Default != "" {
		if set.fallback == nil {
			set.fallback = p
			a.origins = append(a.origins, p.origin())
		} else {
			a.join.tellConflict(p, "default", set.fallback)
		}
	}
	if p.says.Rules == nil {
		return
	}
	if origin := p.origin(); !slices.Contains(a.origins, origin) {
		a.origins = append(a.origins, origin)
	}
	denies := p.says.Action == policy.ActionDeny
	if !denies {
		set.allowing = append(set.allowing, p.place())
	}
	for i, r := range *p.says.Rules {
		if !a.means(p, r, names) {
			continue
		}
		at := policy.Path("rules").Index(i)
		rule := accessRule(r, p.place().RuleCode(at))
		rule.Origin = p.wherefrom()
		if denies {
			set.deny = append(set.deny, rule)
		} else {
			set.allow = append(set.allow, rule)
		}
		if mode != policy.ModeAudit {
			a.warn(p, at, rule, denies)
		}
	}
}

// means says whether a rule is for a port. With its Service gone, none allows, and any denies: which of its ports it
// meant is not known.
func (a *rules) means(p *accessPart, r policy.Rule, names []policy.Port) bool {
	if a.join.gone(p) {
		return p.says.Action == policy.ActionDeny
	}
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(n policy.Port) bool { return slices.Contains(names, n) })
}

// warn tells what is other than it may seem about a rule at this port.
func (a *rules) warn(p *accessPart, at policy.Path, rule model.AccessRule, denies bool) {
	if rule.HTTPOnly() && a.port.Protocol == model.TCP && a.port.Number != 0 {
		what := "it never matches there"
		if denies {
			what = "it denies its callers all of that port"
		}
		a.join.tell(p, at, policy.CodeNotHTTP, "name the ports that carry HTTP, or declare that this one does", fmt.Sprintf(
			"port %d of the pods carries TCP, which has no methods and paths, so that %s", a.port.Number, what))
	}
	if denies && len(rule.From) > 0 && a.port.MTLS == model.MTLSPermissive {
		a.join.tell(p, at.Field("from"), policy.CodePlainText, "write mtls: strict",
			"denies by identity what also takes plain text, where callers have none and get around it")
	}
}

// access is what all documents say together.
func (a *rules) access() *model.Access {
	out := &model.Access{Deny: a.enforced.deny, Origins: a.origins}
	fallback := a.join.defaults.access
	if a.enforced.fallback != nil {
		fallback = a.enforced.fallback.says.Default
	} else if len(a.enforced.allowing) == 0 && !a.join.defaults.origin.IsZero() {
		out.Origins = append(out.Origins, a.join.defaults.origin)
	}
	if allowing := a.enforced.allowing; len(allowing) > 0 {
		out.Allow, out.Closed, out.Code = a.enforced.allow, true, policy.UnmatchedCode(allowing)
	} else {
		a.setDefault(out, fallback)
	}
	shadow := &model.Access{Deny: a.audited.deny}
	switch {
	case len(a.audited.allowing) > 0:
		shadow.Allow, shadow.Closed = slices.Concat(a.enforced.allow, a.audited.allow), true
		shadow.Code = policy.UnmatchedCode(slices.Concat(a.enforced.allowing, a.audited.allowing))
	case a.audited.fallback != nil && len(a.enforced.allowing) == 0:
		a.setDefault(shadow, a.audited.fallback.says.Default)
	}
	if len(shadow.Deny) > 0 || shadow.Closed {
		out.Shadow = shadow
	}
	return out
}

func (a *rules) setDefault(out *model.Access, d policy.DefaultAccess) {
	if d == policy.AccessOpen {
		return
	}
	out.Closed, out.Code = true, model.AccessDefault
	rule := model.AccessRule{Code: model.AccessDefault}
	switch d {
	case policy.AccessAuthenticated:
		rule.From = []model.Principal{{}}
	case policy.AccessSameNamespace:
		rule.From = []model.Principal{{Namespace: a.join.pod.Key.Namespace}}
	default:
		return
	}
	out.Allow = []model.AccessRule{rule}
}

func accessRule(r policy.Rule, code string) model.AccessRule {
	rule := model.AccessRule{Methods: words(r.Methods), Code: code}
	for _, c := range r.From {
		rule.From = append(rule.From, model.Principal{Namespace: c.Namespace, Account: c.ServiceAccount})
	}
	for _, p := range r.Paths {
		path, prefix := strings.CutSuffix(string(p), "*")
		rule.Paths = append(rule.Paths, model.AccessPath{Path: path, Prefix: prefix})
	}
	return rule
}

// place is where the document stands.
func (p *accessPart) place() policy.Place {
	r := p.document.ref
	return policy.Place{Namespace: r.configMap.Namespace, ConfigMap: r.configMap.Name, Key: r.item}
}

// wherefrom names the document, whatever its version.
func (p *accessPart) wherefrom() model.Origin {
	r := p.document.ref
	return model.Origin{Kind: "ConfigMap", Key: r.configMap, Item: r.item}
}

// origin names the version of the document: which of its parts act on a port depends on all the others.
func (p *accessPart) origin() model.Origin {
	o := p.wherefrom()
	o.Hash = p.document.good[0].hash
	return o
}
