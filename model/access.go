package model

// MTLS says whether a port takes plain text.
type MTLS uint8

const (
	MTLSPermissive MTLS = iota // both: callers without a sidecar go on as before
	MTLSStrict                 // only callers that prove who they are
)

func (m MTLS) String() string { return [...]string{"permissive", "strict"}[m] }

// Access decides who may use one port of a workload: what a rule of Deny matches is refused, else what a rule of Allow
// matches passes, else Otherwise decides. The zero value lets everybody in.
type Access struct {
	Deny      []AccessRule
	Allow     []AccessRule
	Otherwise Otherwise
	Code      string // what a refusal by Otherwise is called
	Origins   []Origin
	// Shadow is what documents in audit mode would refuse beyond that, to be counted; nil without such documents.
	// Its own Shadow is nil.
	Shadow *Access
}

// Otherwise is the answer to what no rule matches.
type Otherwise uint8

const (
	Open          Otherwise = iota // everybody may
	Authenticated                  // everybody of the trust domain who proved it by mTLS
	SameNamespace                  // everybody of the workload's own namespace who proved it
	Refuse                         // nobody; always so where some document allows, as all others are refused then
)

func (o Otherwise) String() string {
	return [...]string{"open", "authenticated", "same-namespace", "deny"}[o]
}

// AccessRule is a conjunction of alternatives: all that is set must hold.
type AccessRule struct {
	From    []Principal  // any of them; empty: anybody, proved or not
	Methods []string     // any of them; empty: all
	Paths   []AccessPath // any of them; empty: all
	Code    string       // what a refusal by it is called; stable while it stays in its place
	Origin  Origin
}

// HTTPOnly says that the rule looks at what only an HTTP request has.
func (r AccessRule) HTTPOnly() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

// Principal is who proved an identity of the trust domain by mTLS: one service account, all of a namespace if Account
// is empty, or anybody if Namespace is empty too.
type Principal struct{ Namespace, Account string }

// AccessPath is a path without query, as normalisation leaves it: exact, or everything that begins so.
type AccessPath struct {
	Path   string
	Prefix bool // as text, not by segments: /a matches /ab
}
