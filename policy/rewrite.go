package policy

import (
	"strings"
)

// Rewrite changes what the server sees of a request.
type Rewrite struct {
	// Takes the place of the prefix that the route matched.
	Prefix string `json:"prefix,omitempty"`
	// Takes the place of the whole path; the query stays.
	Path string `json:"path,omitempty"`
	// Takes the place of the host, optionally with a port.
	Host string `json:"host,omitempty"`
}

func (Rewrite) atMostOne() []string { return []string{"prefix", "path"} }

// Redirect answers with a Location; what is left out stays as it was in the request.
type Redirect struct {
	// http or https; left out it is http, whatever x-forwarded-proto says.
	Scheme Scheme `json:"scheme,omitempty"`
	// Host name.
	Host string `json:"host,omitempty"`
	// Port.
	Port *uint16 `json:"port,omitempty" range:"1..65535"`
	// The whole path.
	Path string `json:"path,omitempty"`
	// Takes the place of the prefix that the route matched.
	Prefix string `json:"prefix,omitempty"`
	// HTTP status: 301, 302, 303, 307 or 308.
	Status RedirectStatus `json:"status,omitempty"`
}

func (Redirect) atMostOne() []string { return []string{"path", "prefix"} }

// Scheme is a URL scheme.
type Scheme string

func (Scheme) words() []string { return []string{"http", "https"} }

// RedirectStatus is an HTTP status that redirects, 0 if not written.
type RedirectStatus uint32

func (r *Rewrite) validate(at Path, p *problems) {
	if !p.wrote(at.Field("prefix")) && !p.wrote(at.Field("path")) && !p.wrote(at.Field("host")) {
		p.add(at, CodeNothing, "write prefix, path or host", "changes nothing")
	}
	checkPath(r.Prefix, at.Field("prefix"), p)
	checkPath(r.Path, at.Field("path"), p)
	checkHost(r.Host, at.Field("host"), p)
}

func (r *Redirect) validate(at Path, p *problems) {
	changes := false
	for _, key := range []string{"scheme", "host", "port", "path", "prefix"} {
		changes = changes || p.wrote(at.Field(key))
	}
	if !changes {
		p.add(at, CodeNothing, "write scheme, host, port, path or prefix", "leads back to the same place")
	}
	checkPath(r.Prefix, at.Field("prefix"), p)
	checkPath(r.Path, at.Field("path"), p)
	if strings.Contains(r.Host, ":") {
		p.add(at.Field("host"), CodeHost, "write the port as port", "%q is not a host name", clip(r.Host))
		return
	}
	checkHost(r.Host, at.Field("host"), p)
}
