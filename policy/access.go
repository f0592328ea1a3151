package policy

import (
	"slices"
	"strings"
)

// Access says who may call. It speaks of the workloads with certain labels, of a Service, or with neither of every
// workload in the namespace.
type Access struct {
	// Labels of the pods that it protects.
	Workload Labels `json:"workload,omitempty"`
	// Name of the Service that it protects, in the document's own namespace.
	Service string `json:"service,omitempty"`
	// Whether callers must prove who they are: strict refuses plain text, permissive takes both.
	MTLS MTLSMode `json:"mtls,omitempty"`
	// Ports with an mtls mode of their own: container ports with workload, Service ports with service.
	Ports map[Port]MTLSMode `json:"ports,omitempty"`
	// enforce refuses; audit counts and logs what it would have refused.
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
	// Any of these methods.
	Methods []Method `json:"methods,omitempty"`
	// Any of these paths: exact, or with * as the end for every path that begins so.
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
	if !p.wrote(at.Field("mtls")) && !p.wrote(at.Field("ports")) && !p.wrote(at.Field("rules")) {
		p.add(at, CodeNothing, "write mtls, ports or rules", "says nothing about access")
	}
	if a.Rules == nil {
		for _, key := range []string{"action", "mode"} {
			if p.wrote(at.Field(key)) && !p.wrote(at.Field("rules")) {
				p.addKey(at.Field(key), CodeIgnoredField, "write rules, or leave it out", "has no effect without rules")
			}
		}
	} else if len(*a.Rules) == 0 {
		hint, what := "write rules: [{}] to match every request", "matches no request, so that nobody may call"
		if a.Action == ActionDeny {
			what = "matches no request, so that nothing is denied"
		}
		p.add(at.Field("rules"), CodeNobody, hint, "%s", what)
	}
}

func (r *Rule) validate(at Path, p *problems) {
	for i, c := range r.From {
		if c.Labels != nil {
			p.addKey(at.Field("from").Index(i).Field("labels"), CodeUnproved, "name the ServiceAccount", "no identity proves labels; anyone could have them")
		}
	}
	checkMethods(r.Methods, at.Field("methods"), p)
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
	*pp = PathPattern(s)
	return nil
}
