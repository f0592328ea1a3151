package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// HeaderName is the name of an HTTP header, in lower case.
type HeaderName string

// HeaderChange sets, adds and removes headers. Values are taken as they are.
type HeaderChange struct {
	// Headers that have this value afterwards, whatever they had.
	Set map[HeaderName]string `json:"set,omitempty"`
	// Values that are added to those already there.
	Add map[HeaderName]string `json:"add,omitempty"`
	// Headers that are taken away.
	Remove []HeaderName `json:"remove,omitempty"`
}

func (c *HeaderChange) validate(at Path, p *problems) {
	if len(c.Set)+len(c.Add)+len(c.Remove) == 0 && !p.wrote(at.Field("set")) && !p.wrote(at.Field("add")) && !p.wrote(at.Field("remove")) {
		p.add(at, CodeNothing, "write set, add or remove", "changes nothing")
	}
	checkHeaders(c.Set, at.Field("set"), p)
	checkHeaders(c.Add, at.Field("add"), p)
	for i, name := range c.Remove {
		checkChangeable(name, at.Field("remove").Index(i), p)
		if c.Set[name]+c.Add[name] != "" {
			p.add(at.Field("remove").Index(i), CodeExclusive, "set it, which replaces what was there", "%s is removed as well as set or added", name)
		}
	}
	checkOnce(c.Remove, at.Field("remove"), p)
}

// maxHeaderValue is what Envoy takes (config.core.v3.HeaderValue).
const maxHeaderValue = 16384

func checkHeaders(headers map[HeaderName]string, at Path, p *problems) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		checkChangeable(name, at.Key(string(name)), p)
		if value == "" || len(value) > maxHeaderValue || strings.TrimSpace(value) != value || strings.ContainsFunc(value, isControl) {
			p.add(at.Key(string(name)), CodeHeader, fmt.Sprintf("write 1 to %d characters on one line, without space around them", maxHeaderValue),
				"%q cannot be a header's value", clip(value))
		}
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// checkChangeable refuses headers that frame or route a message, and those whose sender the mesh vouches for:
// changing them would break connections or lie about who calls.
func checkChangeable(name HeaderName, at Path, p *problems) {
	hint := ""
	switch name {
	case "host":
		hint = "use rewrite: {host: ...}"
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer", "content-length":
		hint = "it belongs to the connection (RFC 9110, 7.6.1), which the proxies end"
	default:
		if name != "x-forwarded-client-cert" && !strings.HasPrefix(string(name), "x-envoy-") && !strings.HasPrefix(string(name), "x-heddle-") {
			return
		}
		hint = "it belongs to the mesh; choose another name"
	}
	p.addKey(at, CodeReserved, hint, "%s cannot be changed", name)
}

func (HeaderName) form() form {
	return form{name: "header", pattern: "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"}
}

func (h *HeaderName) setText(s string) *flaw {
	if strings.HasPrefix(s, ":") {
		return flawf(CodeReserved, "use path, method or rewrite", "%q is a pseudo header", clip(s))
	}
	if !isToken(s) || len(s) > 256 {
		return flawf(CodeHeader, "write letters, digits and -, such as x-canary", "%q is not a header's name", clip(s))
	}
	*h = HeaderName(strings.ToLower(s))
	return nil
}

// isToken says whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && strings.Trim(s, alnum+"!#$%&'*+-.^_`|~") == ""
}
