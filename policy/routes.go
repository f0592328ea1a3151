package policy

// Route says what happens to the requests that it matches. It has at most one of to, redirect and directResponse;
// with none of them requests go to the Service itself.
type Route struct {
	// Name in metrics, logs and messages; unique in the document.
	Name string `json:"name"`
	// Alternatives, of which one must match; without it every request matches.
	Match []Match `json:"match,omitempty"`
	// Targets that share the requests by weight; by default the Service itself. Up to 32, mirrors included.
	To []Target `json:"to,omitempty"`
	// In place of the Service's timeout; 0s for none.
	Timeout *Duration `json:"timeout,omitempty" range:"0s.."`
	// In place of the Service's idleTimeout; 0s for never.
	IdleTimeout *Duration `json:"idleTimeout,omitempty" range:"0s.."`
	// In place of the Service's retries; attempts: 0 for none.
	Retries *Retries `json:"retries,omitempty"`
	// Sends copies of requests elsewhere and forgets the answers.
	Mirror []Mirror `json:"mirror,omitempty"`
	// Delays or aborts requests, for tests.
	Fault *Fault `json:"fault,omitempty"`
	// Changes path or host before the request is sent.
	Rewrite *Rewrite `json:"rewrite,omitempty"`
	// Answers with a redirect.
	Redirect *Redirect `json:"redirect,omitempty"`
	// Answers at once, without sending the request anywhere.
	DirectResponse *DirectResponse `json:"directResponse,omitempty"`
	// Changes headers of requests.
	RequestHeaders *HeaderChange `json:"requestHeaders,omitempty"`
	// Changes headers of responses.
	ResponseHeaders *HeaderChange `json:"responseHeaders,omitempty"`
	// Answers cross-origin preflight requests of browsers.
	CORS *CORS `json:"cors,omitempty"`
	// Bounds the rate of requests that each pod takes by this route; the rest is answered 429.
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// In place of the load balancer's hashOn.
	HashOn []HashOn `json:"hashOn,omitempty"`
}

func (Route) atMostOne() []string { return []string{"to", "redirect", "directResponse"} }

// Target is where a share of a route's requests goes.
type Target struct {
	// The Service: a name in the namespace of the Traffic's Service, or namespace/name.
	Service ServiceRef `json:"service"`
	// Port of that Service; by default the port that was called.
	Port *uint16 `json:"port,omitempty" range:"1..65535"`
	// Only pods with these labels.
	Subset Labels `json:"subset,omitempty"`
	// Share, relative to the sum of all weights.
	Weight *uint32 `json:"weight,omitempty" range:"0..1000000"`
}

// Mirror is where copies of requests go.
type Mirror struct {
	// The Service: a name in the namespace of the Traffic's Service, or namespace/name.
	Service ServiceRef `json:"service"`
	// Port of that Service; by default the port that was called.
	Port *uint16 `json:"port,omitempty" range:"1..65535"`
	// Only pods with these labels.
	Subset Labels `json:"subset,omitempty"`
	// Share of requests that is copied.
	Percent *Percent `json:"percent,omitempty"`
}

// DirectResponse answers in place of a server.
type DirectResponse struct {
	// HTTP status.
	Status uint32 `json:"status" range:"200..599"`
	// Body, as it is; up to 4096 bytes.
	Body string `json:"body,omitempty"`
}

// RateLimit is a token bucket in the server's sidecar, one per pod and route, so that callers outside the mesh
// are limited too.
type RateLimit struct {
	// Requests per interval.
	Requests uint32 `json:"requests" range:"1.."`
	// The interval.
	Per *Duration `json:"per,omitempty" range:"50ms..24h"`
	// Requests that may come at once after a pause, at least requests; by default the same as requests.
	Burst *uint32 `json:"burst,omitempty" range:"1.."`
}
