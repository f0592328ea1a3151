// Package attest finds out who asks for an identity. What a caller says of itself decides nothing: in a cluster the API
// server reviews its token and the pod's own object must agree ([Reviewer]); with manifests and in the demo it shows a
// token that whoever started it was handed for that one pod ([JoinTokens]).
//
// The two cannot be mixed up: they are different types with different methods, and what serves a cluster accepts a
// *Reviewer only. Every refusal is a [*Refusal], whose Reason is stable: it is the code of the answer on the wire and
// the label of the metric.
package attest
