package mesh

import (
	"crypto/sha256"
	"encoding/hex"
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
	allows      bool        // some document allows, so that all others are refused
	fallback    *accessPart // the document whose default counts
}

// add takes what a document says, names being what it may call the port.
func (a *rules) add(p *accessPart, names []policy.Port) {
	if p.says == nil {
		a.enforced.deny = append(a.enforced.deny, model.AccessRule{Code: accessCode(p.document.ref, "")})
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
	set.allows = set.allows || !denies
	for i, r := range *p.says.Rules {
		if len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(n policy.Port) bool { return slices.Contains(names, n) }) {
			continue
		}
		at := policy.Path("rules").Index(i)
		rule := accessRule(r, accessCode(p.document.ref, at))
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
	} else if !a.enforced.allows && !a.join.defaults.origin.IsZero() {
		out.Origins = append(out.Origins, a.join.defaults.origin)
	}
	if a.enforced.allows {
		out.Allow, out.Closed = a.enforced.allow, true
	} else {
		a.setDefault(out, fallback)
	}
	shadow := &model.Access{Deny: a.audited.deny}
	switch {
	case a.audited.allows:
		shadow.Allow, shadow.Closed = slices.Concat(a.enforced.allow, a.audited.allow), true
	case a.audited.fallback != nil && !a.enforced.allows:
		a.setDefault(shadow, a.audited.fallback.says.Default)
	}
	if len(shadow.Deny) > 0 || shadow.Closed {
		out.Shadow = shadow
	}
	return out
}

func (a *rules) setDefault(out *model.Access, d policy.DefaultAccess) {
	out.Closed = d != policy.AccessOpen
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

// accessCode names a rule to whom it refuses, by where it stands: an edit of the rule does not change it, and it says
// nothing to those who cannot read the document.
func accessCode(r ref, at policy.Path) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", r.configMap, r.item, at))
	return "HDA-" + hex.EncodeToString(sum[:4])
}

// origin names the document: which of its parts act on a port depends on all the others.
func (p *accessPart) origin() model.Origin {
	r := p.document.ref
	return model.Origin{Kind: "ConfigMap", Key: r.configMap, Item: r.item, Hash: p.document.good[0].hash}
}
