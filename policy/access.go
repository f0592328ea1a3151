package policy

import (
	"encoding/hex"
	"slices"
	"strings"
)

// Access says who may call. It speaks of the workloads with certain labels, of a Service, or with neither of every
// workload in the namespace. All documents that speak of a workload count together: what a rule to deny matches is
// refused; else, if any of them allows, what a rule to allow matches passes and all others are refused; else the
// default decides.
type Access struct {
	// Labels of the pods that it protects.
	Workload Labels `json:"workload,omitempty"`
	// Name of the Service that it protects, in the document's own namespace.
	Service string `json:"service,omitempty"`
	// Whether callers must prove who they are: strict refuses plain text, permissive takes both.
	MTLS MTLSMode `json:"mtls,omitempty"`
	// Ports with an mtls mode of their own: container ports with workload, Service ports with service.
	Ports map[Port]MTLSMode `json:"ports,omitempty"`
	// Who may call workloads that no rule to allow speaks of; only in a document for the whole namespace, and by default
	// as the Mesh document says.
	Default DefaultAccess `json:"default,omitempty"`
	// enforce refuses; audit counts and logs what rules and default would have refused. mtls and ports hold in both.
	Mode AccessMode `json:"mode,omitempty"`
	// What happens to requests that a rule matches. With allow, all others are refused; deny comes before allow.
	Action AccessAction `json:"action,omitempty"`
	// Rules, of which any may match; without the key only mtls is set, and an empty list matches nothing.
	Rules *[]Rule `json:"rules,omitempty"`
}

func (Access) atMostOne() []string { return []string{"workload", "service"} }

// Rule is a conjunction: all that is written must hold.
type Rule struct {
	// Any of these callers: "namespace/serviceAccount", "namespace/*", or a mapping; they must have proved it by mTLS.
	From []Caller `json:"from,omitempty"`
	// Any of these methods. A request that asks to be taken for another one, by X-HTTP-Method-Override and its like, is
	// denied as that one too, and is allowed by no rule that names methods.
	Methods []Method `json:"methods,omitempty"`
	// Any of these paths, without the query: exact, or with * as the end for every path that begins so. A rule to deny
	// matches them percent-encoded and with ;parameters as well. What else an application takes for the same, such as
	// other letters or a / at the end, is another path.
	Paths []PathPattern `json:"paths,omitempty"`
	// Any of these ports: container ports with workload, Service ports with service.
	Ports []Port `json:"ports,omitempty"`
}

// MTLSMode says whether plain text is taken.
type MTLSMode string

// The values of mtls.
const (
	MTLSStrict     MTLSMode = "strict"
	MTLSPermissive MTLSMode = "permissive"
)

func (MTLSMode) words() []string { return []string{"strict", "permissive"} }

// AccessMode says whether a document refuses or only tells.
type AccessMode string

// The values of mode.
const (
	ModeEnforce AccessMode = "enforce"
	ModeAudit   AccessMode = "audit"
)

func (AccessMode) words() []string { return []string{"enforce", "audit"} }

// AccessAction is what happens to requests that a rule matches.
type AccessAction string

// The values of action.
const (
	ActionAllow AccessAction = "allow"
	ActionDeny  AccessAction = "deny"
)

func (AccessAction) words() []string { return []string{"allow", "deny"} }

func (a *Access) validate(at Path, p *problems) {
	if a.Service != "" && !isLabel(a.Service) {
		p.add(at.Field("service"), CodeName, "write the name of a Service in the same namespace", "%q does not name a Service", clip(a.Service))
	}
	wrote := func(key string) bool { return p.wrote(at.Field(key)) }
	if !wrote("mtls") && !wrote("ports") && !wrote("rules") && !wrote("default") {
		p.add(at, CodeNothing, "write mtls, ports, rules or default", "says nothing about access")
	}
	if wrote("action") && !wrote("rules") {
		p.addKey(at.Field("action"), CodeIgnoredField, "write rules, or leave it out", "has no effect without rules")
	}
	if wrote("mode") && !wrote("rules") && !wrote("default") {
		p.addKey(at.Field("mode"), CodeIgnoredField, "write rules or default, or leave it out", "has no effect without rules")
	}
	a.validateDefault(at, p)
	if a.Rules != nil && len(*a.Rules) == 0 {
		hint, what := "write rules: [{}] to match every request", "matches no request, so that nobody may call"
		if a.Action == ActionDeny {
			what = "matches no request, so that nothing is denied"
		}
		p.add(at.Field("rules"), CodeNobody, hint, "%s", what)
	}
}

func (a *Access) validateDefault(at Path, p *problems) {
	if !p.wrote(at.Field("default")) {
		return
	}
	for _, key := range []string{"workload", "service"} {
		if p.wrote(at.Field(key)) {
			p.addKey(at.Field("default"), CodeExclusive, "write it in a document for the whole namespace", "excludes %s", key)
		}
	}
	if a.Rules != nil && a.Action != ActionDeny {
		p.addKey(at.Field("default"), CodeIgnoredField, "keep one of them",
			"has no effect beside rules that allow: they refuse all others in the whole namespace")
	}
}

func (r *Rule) validate(at Path, p *problems) {
	for i, c := range r.From {
		at := at.Field("from").Index(i)
		switch {
		case c.Labels != nil:
			p.addKey(at.Field("labels"), CodeUnproved, "name the ServiceAccount", "no identity proves labels; anyone could have them")
		case c.Namespace == "" && c.ServiceAccount != "":
			p.add(at, CodeUnproved, "name the namespace", "a ServiceAccount's name without its namespace proves nothing; any namespace could have one")
		}
	}
	checkMethods(r.Methods, at.Field("methods"), p)
	checkOnce(r.Paths, at.Field("paths"), p)
}

// PathPattern is a path, or the beginning of one with * at its end.
type PathPattern string

func (PathPattern) form() form { return form{name: "path", pattern: "^/[^*?#]*[*]?$"} }

func (pp *PathPattern) setText(s string) *flaw {
	flaw := pathFlaw(s)
	switch i := strings.IndexByte(s, '*'); {
	case flaw != nil:
		return flaw
	case i >= 0 && i < len(s)-1:
		return flawf(CodePath, "write * as the last character only", "%q has * in its middle", clip(s))
	case slices.Contains(strings.Split(strings.TrimPrefix(s, "/"), "/")[:strings.Count(s, "/")-1], ""):
		return flawf(CodePath, "write single slashes", "%q never matches, since // is refused or merged where access rules look at paths", clip(s))
	}
	if strings.Contains(s, `\`) {
		return flawf(CodePath, "write /", "%q never matches, since paths are compared with / in place of \\", clip(s))
	}
	if plain, ok := unneededEscape(s); ok {
		return flawf(CodePath, "write "+plain, "%q never matches, since paths are compared with %s", clip(s), plain)
	}
	*pp = PathPattern(s)
	return nil
}

// unneededEscape finds a percent-encoded character that sidecars decode before they compare, or refuse: a letter, digit
// or one of -._~ (RFC 3986, 6.2.2.2), and both slashes.
func unneededEscape(path string) (plain string, ok bool) {
	for rest := path; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found || len(after) < 2 {
			return "", false
		}
		if c, err := hex.DecodeString(after[:2]); err == nil && (isUnreserved(c[0]) || c[0] == '/' || c[0] == '\\') {
			return string(c), true
		}
		rest = after
	}
}

// isUnreserved says whether c means the same percent-encoded and plain (RFC 3986, 2.3).
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
