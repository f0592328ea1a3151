// Package controlplane wires Heddle's parts together: it is the only place that knows them all.
//
// One goroutine, the loop, owns the state of the mesh. It takes batches of events from the source, applies them to
// [mesh.State], translates exactly the views that changed, and publishes the resources to the [xds.Store]; from there
// each stream goes its own way. Whoever else needs the state (a sidecar that connects, a health report, a person's
// question) hands the loop a function to run.
//
//	source -> loop: mesh.State.Apply -> translator -> xds.Store -> streams -> Envoy
//
// Resources are published in layers, so that what all sidecars share is translated and held once (layers.go):
//
//	mesh             routes, clusters and endpoints of every Service
//	redirected       listeners, for sidecars whose traffic is redirected
//	namespace/shop   what policy in namespace shop says of other namespaces' Services
//	zone/z1 node/n1  endpoints of Services that prefer or require closeness
//	pod/shop/web-1/7 what this one sidecar receives, and its listeners if it binds them itself
//
// A process signs as well ([Replica]), or it does one of both: [SignerRole] is the keeper of the CA, and [Server] all else,
// with certificates from the signer for its door, for the webhooks, and for the API that the command line asks.
package controlplane
