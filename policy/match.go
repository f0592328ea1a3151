package policy

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
	Labels map[string]string `json:"labels,omitempty"`
}
