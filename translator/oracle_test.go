package translator_test

import (
	"net/url"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/policy"
)

// The oracle says who may call by reading the documents as docs/policy.md explains them, one after the other. It shares
// nothing with what compiles them.

// written is an Access document as somebody wrote it.
type written struct {
	policy.Access
	audit bool
}

// call is a request, or a connection if method is empty.
type call struct {
	port              uint16 // of the container
	namespace, sa     string // empty: plain text
	method, path      string // path as a sidecar leaves it, with query
	old               bool   // the connection is from before there were rules on paths: slashes come as they were sent
	override          string
	overrideIsPresent bool
}

// world is what the documents are about: one pod with the label app: web.
type world struct {
	docs     []written // the older ones first
	access   policy.DefaultAccess
	mtls     policy.MTLSMode
	services map[string]map[uint16]uint16 // name: Service port to container port
}

const podNamespace = "shop"

// covers says by what numbers a document may name a container port; nil if it is not about it.
func (w world) covers(d written, port uint16) []uint16 {
	switch {
	case d.Service != "":
		var names []uint16
		for number, target := range w.services[d.Service] {
			if target == port {
				names = append(names, number)
			}
		}
		return names
	case d.Workload != nil && d.Workload["app"] != "web":
		return nil
	}
	return []uint16{port}
}

func (w world) strict(port uint16) bool {
	isWide := func(d written) bool { return d.Service == "" && d.Workload == nil }
	for _, wide := range []bool{false, true} {
		for _, d := range w.docs {
			mode := policy.MTLSMode("")
			for _, n := range w.covers(d, port) {
				if said := d.Ports[policy.Port(n)]; said != "" && mode != policy.MTLSStrict {
					mode = said
				}
			}
			if isWide(d) == wide && mode != "" {
				return mode == policy.MTLSStrict
			}
		}
		for _, d := range w.docs {
			if isWide(d) == wide && d.MTLS != "" && len(w.covers(d, port)) > 0 {
				return d.MTLS == policy.MTLSStrict
			}
		}
	}
	return w.mtls == policy.MTLSStrict
}

// may says whether a call passes, and whether it would with what is only audited.
func (w world) may(c call) (passes, audited bool) {
	if c.namespace == "" && w.strict(c.port) {
		return false, false
	}
	enforced, denied := w.judge(c, false)
	if denied {
		return false, false
	}
	shadow, shadowDenied := w.judge(c, true)
	passes = enforced.passes(w.byDefault(c, false))
	audited = passes && !shadowDenied
	switch {
	case shadow.present:
		audited = audited && (shadow.matched || enforced.present && enforced.matched)
	case !enforced.present:
		audited = audited && w.byDefault(c, true)
	}
	return passes, audited
}

// allowing is what documents that allow say.
type allowing struct{ present, matched bool }

func (a allowing) passes(byDefault bool) bool {
	if a.present {
		return a.matched
	}
	return byDefault
}

func (w world) judge(c call, audit bool) (a allowing, denied bool) {
	for _, d := range w.docs {
		names := w.covers(d, c.port)
		if d.Rules == nil || d.audit != audit || len(names) == 0 {
			continue
		}
		deny := d.Action == policy.ActionDeny
		a.present = a.present || !deny
		for _, r := range *d.Rules {
			if !matchesRule(r, names, c, deny) {
				continue
			}
			denied = denied || deny
			a.matched = a.matched || !deny
		}
	}
	return a, denied
}

// byDefault is the answer of the namespace or the mesh; for audit, of the namespace alone.
func (w world) byDefault(c call, audit bool) bool {
	answer := w.access
	if audit {
		answer = policy.AccessOpen
	}
	for _, d := range w.docs {
		if d.Default != "" && d.audit == audit {
			answer = d.Default
			break
		}
	}
	switch answer {
	case policy.AccessOpen:
		return true
	case policy.AccessAuthenticated:
		return c.namespace != ""
	case policy.AccessSameNamespace:
		return c.namespace == podNamespace
	}
	return false
}

func matchesRule(r policy.Rule, names []uint16, c call, deny bool) bool {
	from := len(r.From) == 0 || slices.ContainsFunc(r.From, func(f policy.Caller) bool {
		return c.namespace != "" && (f.Namespace == "" || f.Namespace == c.namespace) && (f.ServiceAccount == "" || f.ServiceAccount == c.sa)
	})
	port := len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p policy.Port) bool { return slices.Contains(names, uint16(p)) })
	if c.method == "" { // a connection: what cannot be seen is there for those who deny, and not for those who allow
		return from && port && (deny || len(r.Methods)+len(r.Paths) == 0)
	}
	return from && port && matchesMethods(r.Methods, c, deny) && matchesPaths(r.Paths, c, deny)
}

func matchesMethods(methods []policy.Method, c call, deny bool) bool {
	if len(methods) == 0 {
		return true
	}
	is := slices.Contains(methods, policy.Method(c.method))
	if deny {
		return is || slices.ContainsFunc(methods, func(m policy.Method) bool {
			return strings.Contains(strings.ToUpper(c.override), string(m))
		})
	}
	return is && !c.overrideIsPresent
}

func matchesPaths(patterns []policy.PathPattern, c call, deny bool) bool {
	path, _, _ := strings.Cut(c.path, "?")
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p policy.PathPattern) bool {
		pattern, prefix := strings.CutSuffix(string(p), "*")
		unclear := strings.Contains(path, "/..;") || c.old && holdsOtherSlashes(path)
		seen, want := path, pattern
		if deny {
			seen, want = asServersSee(path), decoded(pattern)
		}
		switch {
		case deny && unclear:
			return true
		case prefix:
			return strings.HasPrefix(seen, want) && !unclear
		}
		return seen == want
	})
}

// holdsOtherSlashes says that a path has slashes which a sidecar merges, or refuses to take, where there are rules on paths.
func holdsOtherSlashes(path string) bool {
	return slices.ContainsFunc([]string{"//", "%2F", "%5C", `\`}, func(s string) bool {
		return strings.Contains(strings.ToUpper(path), s)
	})
}

// asServersSee is a path without parameters and percent-encoding.
func asServersSee(path string) string {
	segments := strings.Split(path, "/")
	var out []string
	for i, s := range segments {
		bare, _, parameters := strings.Cut(s, ";")
		if last := i == len(segments)-1; parameters && (bare == "" || bare == ".") {
			if !last {
				continue
			}
			bare = ""
		}
		out = append(out, bare)
	}
	return decoded(strings.Join(out, "/"))
}

func decoded(path string) string {
	plain, err := url.PathUnescape(path)
	if err != nil {
		panic(err) // the test writes none that cannot be
	}
	return plain
}
