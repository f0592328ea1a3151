package policy

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
	// http or https.
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
