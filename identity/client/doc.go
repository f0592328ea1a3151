// Package client asks the signer for certificates, JWTs and the trust bundle, over its HTTPS API. It is part of every
// sidecar, where memory counts: it needs net/http and go-spiffe only.
//
// The signer is known by its SPIFFE ID, not by a name: its certificate must lead to a root of the trust bundle that the
// caller holds at that moment, and carry exactly that ID.
package client
