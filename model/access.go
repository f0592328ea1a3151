package model

// MTLS says whether a port takes plain text.
type MTLS uint8

const (
	MTLSPermissive MTLS = iota // both: callers without a sidecar go on as before
	MTLSStrict                 // only callers that prove who they are
)

func (m MTLS) String() string { return [...]string{"permissive", "strict"}[m] }

// Access decides who may use one port of a workload: what a rule of Deny matches is refused; else what a rule of Allow
// matches passes; else it passes unless Closed. The zero value lets everybody in; a nil Access, nobody.
type Access struct {
	Deny    []AccessRule
	Allow   []AccessRule // only where Closed; a default other than open and deny is a rule here
	Closed  bool
	Code    string   // names, to whom it refuses, why Closed does: AccessDefault, or a name for the documents that allow
	Origins []Origin // the parts of documents that have effect here
	// Shadow is what documents in audit mode would refuse beyond that, to be counted; nil without such documents.
	// Its own Shadow is nil.
	Shadow *Access
}

// AccessDefault is the code of refusals by a default, of the mesh or a namespace, and of the rule that a default is.
const AccessDefault = "HDA-default"

// AccessRule is a conjunction of alternatives: all that is set must hold.
type AccessRule struct {
	From    []Principal  // any of them; empty: anybody, proved or not
	Methods []string     // any of them; empty: all
	Paths   []AccessPath // any of them; empty: all
	Code    string       // names the rule to whom it refuses; the same as long as the rule stays where it stands
	Origin  Origin       // its document, without a hash: an edit of another rule changes nothing here; zero of a default
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
