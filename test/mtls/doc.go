// Package mtls shows what is on the wire between two sidecars, and what each of them refuses.
//
// A town is real Envoys without a control plane: the resources are those that translator makes of the facts, served
// from a store of the test's own. The pods' addresses belong to relays, which record every byte and pass it on to the
// real sidecars, so that a test can say what was not in plain text; and what the mesh believes of a pod need not be
// true, so that a test can put somebody else there.
package mtls
