// Package translator turns views of the mesh into Envoy resources. It is pure: values in, values out.
//
// Read it in this order:
//
//   - [Outbound]: how callers reach one Service: a listener and a route configuration per port, a cluster per port
//     and subset. [Endpoints] gives the clusters' endpoints, [Proxyless] the API listeners of gRPC clients.
//   - [Inbound]: what one sidecar receives: a listener, a route configuration and clusters to its application.
//   - [Frame]: what every sidecar has whatever the mesh holds: the capture listener and the pass-through cluster.
//
// One file is one concept or one policy feature (retries.go, fault.go, outlier.go). The order of Envoy's filters is in
// filters.go and nowhere else; the names of resources are in names.go; where each came from is in provenance.go.
//
// The same view gives the same bytes: everything that is emitted from a map is sorted first. A view of one Service
// never needs another Service's, so a change costs the work of the Service that changed.
package translator
