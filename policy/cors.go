package policy

import (
	"net/url"
)

// CORS answers cross-origin preflight requests and marks responses (https://fetch.spec.whatwg.org/#http-cors-protocol).
type CORS struct {
	// Origins that are allowed; a plain string is an exact origin, "*" any.
	Origins []OriginMatch `json:"origins"`
	// Methods that are allowed.
	Methods []Method `json:"methods,omitempty"`
	// Request headers that are allowed.
	Headers []HeaderName `json:"headers,omitempty"`
	// Response headers that scripts may read.
	ExposeHeaders []HeaderName `json:"exposeHeaders,omitempty"`
	// How long browsers may remember the answer, in whole seconds.
	MaxAge *Duration `json:"maxAge,omitempty" range:"0s.."`
	// Whether requests may carry cookies and credentials.
	Credentials bool `json:"credentials,omitempty"`
}

// OriginMatch is a set of origins. A plain string stands for {exact: that string}.
type OriginMatch struct {
	// The whole origin, such as https://shop.example.com.
	Exact string `json:"exact,omitempty"`
	// The beginning of the origin.
	Prefix string `json:"prefix,omitempty"`
	// RE2 expression for the whole origin.
	Regex Regex `json:"regex,omitempty"`
}

func (OriginMatch) oneOf() []string { return []string{"exact", "prefix", "regex"} }

func (c *CORS) validate(at Path, p *problems) {
	for i, o := range c.Origins {
		if o.Exact == "*" && c.Credentials {
			p.add(at.Field("credentials"), CodeCredentials, "name the origins", "any site could act as its visitors, since origins[%d] allows all", i)
		}
	}
	for i, m := range c.Methods {
		if m == "*" && c.Credentials {
			p.add(at.Field("methods").Index(i), CodeMethod, "name the methods", `"*" is taken literally by browsers where there are credentials`)
		}
	}
	checkSeconds(c.MaxAge, at.Field("maxAge"), p)
}

func (OriginMatch) form() form { return form{name: "exact origin"} }

func (o *OriginMatch) setShort(s string) *flaw {
	if flaw := originFlaw(s); flaw != nil {
		return flaw
	}
	o.Exact = s
	return nil
}

func (o *OriginMatch) validate(at Path, p *problems) {
	if flaw := originFlaw(o.Exact); o.Exact != "" && flaw != nil {
		p.add(at.Field("exact"), flaw.code, flaw.hint, "%s", flaw.message)
	}
}

// originFlaw holds s to what browsers send as Origin: a scheme, a host, and a port unless it is the scheme's own.
func originFlaw(s string) *flaw {
	u, err := url.Parse(s)
	if s == "*" || s == "null" || err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == s {
		return nil
	}
	return flawf(CodeHost, "write one such as https://shop.example.com", "%q is not an origin", clip(s))
}
