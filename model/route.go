package model

import "time"

// Route is one entry of a Service's route table. The first that matches is taken.
type Route struct {
	Name            string
	Matches         []Match        // any of them; empty matches everything
	To              []Target       // empty: the Service itself, unless Redirect or Direct is set
	Timeout         *time.Duration // nil: the Traffic's
	IdleTimeout     *time.Duration
	Retries         *Retries // nil: the Traffic's
	NoRetries       bool     // attempts: 0 in the policy, though the Traffic has retries
	Mirror          []Mirror
	Fault           *Fault
	Rewrite         *Rewrite
	Redirect        *Redirect
	RequestHeaders  HeaderChange
	ResponseHeaders HeaderChange
	CORS            *CORS
	RateLimit       *RateLimit
	Direct          *DirectResponse
	HashOn          []HashOn // instead of the load balancer's
}

// Target is where a share of a route's requests goes.
type Target struct {
	Service Key
	Port    uint16 // of that Service; 0 only where it is not resolved: the port that was called
	Subset  Labels // nil for all its pods
	Weight  uint32 // relative to the sum; 0 only where a policy says so
	// Missing says why this target cannot be reached: no such Service or no such port. Its share is answered
	// 503 with the response flag NC, so that the fault is visible where it is.
	Missing string
}

// Match is a conjunction: all that is set must hold.
type Match struct {
	Path    *PathMatch
	Headers []ValueMatch
	Query   []ValueMatch
	Methods []string // any of them
	From    []Caller // any of them
}

// PathMatch looks at the path without the query. One of the fields is set.
type PathMatch struct {
	Exact  string
	Prefix string // on segment boundaries: /v2 matches /v2 and /v2/x, not /v20
	Regex  string // RE2, of the whole path
}

// ValueMatch looks at a header or query parameter.
type ValueMatch struct {
	Name  string
	Kind  ValueKind
	Value string
}

// ValueKind is how a ValueMatch compares.
type ValueKind uint8

const (
	ValueExact ValueKind = iota
	ValuePrefix
	ValueRegex // RE2, of the whole value
	ValuePresent
	ValueAbsent
)

// Caller is a set of workloads by namespace, service account and labels; empty fields match all.
type Caller struct {
	Namespace string
	Account   string
	Labels    Labels
}

// Mirror sends a copy of a share of requests and forgets the answers.
type Mirror struct {
	Target  Target
	Percent float64
}

// Fault delays or aborts a share of requests, on purpose.
type Fault struct {
	Delay  *Delay
	Abort  *Abort
	Header string // only requests that carry this header; empty for all
}

// Delay holds a request back.
type Delay struct {
	Duration time.Duration
	Percent  float64
}

// Abort answers a request without sending it on.
type Abort struct {
	Status  uint32 // HTTP status; 0 if GRPC is set
	GRPC    *uint32
	Percent float64
}

// Rewrite changes what the server sees. Prefix and Path exclude each other.
type Rewrite struct {
	Prefix *string // in place of the matched prefix
	Path   string  // the full path
	Host   string
}

// Redirect answers with a Location.
type Redirect struct {
	Scheme string
	Host   string
	Port   uint32
	Path   string
	Prefix *string
	Status uint32 // 301, 302, 303, 307 or 308
}

// HeaderChange sets, adds and removes headers, in that order; names sorted.
type HeaderChange struct {
	Set    []Header
	Add    []Header
	Remove []string
}

// Header is a name and a value.
type Header struct{ Name, Value string }

// CORS answers cross-origin preflights.
type CORS struct {
	Origins     []OriginMatch
	Methods     []string
	Headers     []string
	Expose      []string
	MaxAge      time.Duration
	Credentials bool
}

// OriginMatch is an allowed origin.
type OriginMatch struct{ Exact, Prefix, Regex string }

// RateLimit is a token bucket.
type RateLimit struct {
	Requests uint32        // tokens per interval
	Per      time.Duration // the interval
	Burst    uint32        // size of the bucket, at least Requests
}

// DirectResponse answers by itself.
type DirectResponse struct {
	Status uint32
	Body   string
}
