package policy

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
