// Package keep says where the CA lives, who may write it, and moves its rotation on.
//
// Two things are kept: the CA itself, secret, with keys and the state of its rotation; and what everybody may know, the
// trust bundle with its fingerprint.
//
//	           the CA                      the bundle
//	cluster    Secret heddle-ca            ConfigMap heddle-trust, copied into each namespace with sidecars
//	directory  ca.json, mode 0600          trust.json
//
// # A CA that is gone
//
// A CA that was deleted or damaged must never be replaced silently: every sidecar would have to be told of a new root at
// once, and cannot be. So the first creation is told apart from a deletion by the other thing that is kept. With
// neither, there was never a CA, and one is made. With the bundle but not the CA, or with a CA that cannot be read, or
// that the bundle's fingerprint does not belong to, nothing is signed until a person has mended it ([Fault]):
//
//   - restore the Secret from a backup (or ca.json): signing goes on within seconds, and nothing else happens; or
//   - give the old CA up: delete what is left of it, call [Keeper.Recover], which forgets the bundle, and restart the
//     signers, so that a new root is made. Until a sidecar has read the new bundle from its ConfigMap it reaches neither the signer nor
//     sidecars with certificates of the new root.
//
// A Secret without the ConfigMap is harmless: the ConfigMap is written again. If both are deleted, a process that has
// seen the CA makes no other one; one that is started after that cannot know, and takes it for a first start.
//
// # One writer
//
// In a cluster the holder of a Lease writes and serves. The others load what is stored, to be ready at once, and answer
// that they do not lead: the rotation goes by which sidecar has taken what, and only one process can know that. What is
// written is written on the condition that it is what was read, so that a process that only thinks it leads changes
// nothing. A directory belongs to one process by a lock.
//
// # Rotation
//
// The one writer goes round: read, hold the CA against the bundle, write the bundle if it is not the state's, let it be
// served, copy it, ask identity.State what may come next, and store that. Each round begins with what is stored and
// does again what may have been left undone, so a writer can die anywhere. No step is taken before the other replicas had
// time to read the one before, nor, for two minutes, before all copies of the bundle are written.
package keep
