// Package injector puts a sidecar into a pod.
//
// It is one pure function, [Patch]: a pod and the facts about where it will run in; a patched copy, or the reason why
// there is none, out. The mutating webhook and heddle inject --manual both use it, so what a cluster does can be seen
// without one. There are three outcomes:
//
//   - [Injected]: the copy has the sidecar, an init container that redirects traffic and waits for it, what the two need, probes that go
//     by the sidecar, and a pause before containers end. Nothing else of the pod is changed.
//   - [LeftAlone]: there is nothing to do, or a sidecar makes no sense there, as in a pod on its node's network. The pod
//     starts as it is, and the reason is told.
//   - [Refused]: somebody wants a sidecar that could not work. The pod must not start, for half of a mesh is worse than
//     an error: it would send in plain text what was meant to be encrypted.
//
// The files: decide.go says which of the three it is, annotations.go reads what people may set, containers.go has what
// is added, probes.go and lifecycle.go what is changed. docs/injection.md is the same for users.
package injector
