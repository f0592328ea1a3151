package policy

import (
	"maps"
	"slices"
	"strings"
)

// Match is a conjunction: all that is written must hold.
type Match struct {
	// Path of the request, without the query.
	Path *PathMatch `json:"path,omitempty"`
	// Request headers by name; a plain string is an exact value.
	Headers map[HeaderName]ValueMatch `json:"headers,omitempty"`
	// Query parameters by name; a plain string is an exact value.
	Query map[string]ValueMatch `json:"query,omitempty"`
	// The one method.
	Method Method `json:"method,omitempty"`
	// Any of these methods.
	Methods []Method `json:"methods,omitempty"`
	// Any of these callers: "namespace/serviceAccount", "namespace/*", or a mapping.
	From []Caller `json:"from,omitempty"`
}

func (Match) atMostOne() []string { return []string{"method", "methods"} }

func (m *Match) validate(at Path, p *problems) {
	if m.Method == "*" {
		p.add(at.Field("method"), CodeMethod, "leave method out to match all", `"*" is not a method`)
	}
	checkMethods(m.Methods, at.Field("methods"), p)
	for _, name := range slices.Sorted(maps.Keys(m.Query)) {
		if name == "" || len(name) > 1024 {
			p.addKey(at.Field("query").Key(name), CodeName, "write 1 to 1024 characters", "%q cannot be the name of a query parameter", clip(name))
		}
	}
}

// PathMatch looks at a path.
type PathMatch struct {
	// The whole path.
	Exact string `json:"exact,omitempty"`
	// Leading segments: /v2 matches /v2 and /v2/items, not /v20.
	Prefix string `json:"prefix,omitempty"`
	// RE2 expression for the whole path.
	Regex Regex `json:"regex,omitempty"`
}

func (PathMatch) oneOf() []string { return []string{"exact", "prefix", "regex"} }

func (m *PathMatch) validate(at Path, p *problems) {
	checkPath(m.Exact, at.Field("exact"), p)
	checkPath(m.Prefix, at.Field("prefix"), p)
	if len(m.Prefix) > 1 && strings.HasSuffix(m.Prefix, "/") {
		p.add(at.Field("prefix"), CodePath, "leave the last / out: a prefix is whole segments", "%q ends in /", clip(m.Prefix))
	}
}

// checkPath holds s, unless it is empty, to what the path of a request looks like when it is compared.
func checkPath(s string, at Path, p *problems) {
	if flaw := pathFlaw(s); s != "" && flaw != nil {
		p.add(at, flaw.code, flaw.hint, "%s", flaw.message)
	}
}

func pathFlaw(s string) *flaw {
	segments := strings.Split(s, "/")
	switch {
	case !strings.HasPrefix(s, "/"):
		return flawf(CodePath, "write /"+clip(s), "%q does not begin with /", clip(s))
	case strings.ContainsAny(s, "?#"):
		return flawf(CodePath, "write the path alone; match.query looks at the query", "%q has a query or fragment", clip(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return flawf(CodePath, "percent-encode it, as it is on the wire", "%q has characters that no path has", clip(s))
	case slices.Contains(segments, ".") || slices.Contains(segments, ".."):
		return flawf(CodePath, "write the path without . and .. segments", "%q never matches, since paths are compared without . and .. segments", clip(s))
	case len(s) > 4096:
		return flawf(CodePath, "write up to 4096 characters", "%q is too long", clip(s))
	}
	return nil
}

// ValueMatch looks at a header or query parameter. A plain string stands for {exact: that string}.
type ValueMatch struct {
	// The whole value.
	Exact *string `json:"exact,omitempty"`
	// The beginning of the value.
	Prefix string `json:"prefix,omitempty"`
	// RE2 expression for the whole value.
	Regex Regex `json:"regex,omitempty"`
	// It is there, whatever its value; written as true.
	Present bool `json:"present,omitempty"`
	// It is not there; written as true.
	Absent bool `json:"absent,omitempty"`
}

func (ValueMatch) oneOf() []string { return []string{"exact", "prefix", "regex", "present", "absent"} }

// Caller is a set of workloads; what is left out matches all. The string "shop/frontend" stands for
// {namespace: shop, serviceAccount: frontend}, and "admin/*" for {namespace: admin}.
type Caller struct {
	// Namespace of the caller.
	Namespace string `json:"namespace,omitempty"`
	// ServiceAccount of the caller.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Labels of the caller's pod; only where the caller's own sidecar decides, so not in Access.
	Labels Labels `json:"labels,omitempty"`
}

func (ValueMatch) form() form { return form{name: "exact value"} }

func (m *ValueMatch) setShort(s string) *flaw {
	m.Exact = &s
	return nil
}

// Method is an HTTP method, or "*" where all are meant.
type Method string

func (Method) form() form { return form{name: "method", pattern: "^([A-Z][-A-Z]*|[*])$"} }

func (m *Method) setText(s string) *flaw {
	switch {
	case s == "*" || isToken(s) && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "" && s[0] != '-':
		*m = Method(s)
		return nil
	case isToken(s) && strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "":
		return flawf(CodeMethod, "write "+clip(strings.ToUpper(s)), "%q never matches, since methods are in capitals", clip(s))
	}
	return flawf(CodeMethod, "write one such as GET", "%q is not a method", clip(s))
}

// checkMethods refuses "*" and repetition where a list of methods narrows down.
func checkMethods(methods []Method, at Path, p *problems) {
	if i := slices.Index(methods, "*"); i >= 0 {
		p.add(at.Index(i), CodeMethod, "leave methods out to match all", `"*" is not a method`)
	}
	checkOnce(methods, at, p)
}

// checkOnce refuses repetition in a list.
func checkOnce[T ~string](list []T, at Path, p *problems) {
	seen := make(map[T]bool, len(list))
	for i, s := range list {
		if s != "" && seen[s] { // empty: told already
			p.add(at.Index(i), CodeTwice, "keep one of them", "%s is there twice", s)
		}
		seen[s] = true
	}
}
