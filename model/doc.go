// Package model is the mesh as plain immutable values.
//
// There are two layers of types, and data flows from the first to the second:
//
//   - facts: compact copies of what Kubernetes (or a folder of manifests) says: [Service], [Slice], [Pod],
//     [Namespace], [Node], [PolicyText]. The kube package makes them; an [Event] carries one.
//   - views: what one translation needs and nothing more: [Outbound] (how callers reach a Service), [Endpoints]
//     (where its pods are) and [Workload] (what one sidecar receives). The mesh package joins facts into views.
//
// There is deliberately no struct holding the whole mesh: a snapshot of everything would have to be rebuilt for
// every change, and the cost of a change must not grow with the cluster. See ARCHITECTURE.md.
//
// A value of this package is never changed after it was handed on; share it freely between goroutines. The
// package imports nothing of Heddle's.
package model
