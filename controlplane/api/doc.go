// Package api is what a control plane tells the command line of a cluster, and who may ask.
//
//	GET /v1/version                        which program answers
//	GET /v1/health                         whether it is ready, and whether its source answers
//	GET /v1/proxies                        every connected sidecar that the caller may see
//	GET /v1/proxies/{namespace}/{pod}/config  what one sidecar is served, connected or not
//	GET /v1/identity                       anchors, issuers and certificates; for the whole mesh only
//
// The listener is bound to the pod's loopback and reached by a port-forward, so the API server's RBAC on pods/portforward
// comes first. Then a short-lived token says what the caller may see: the API server hands one out for the ServiceAccount
// heddle-view, or heddle-tap, to whom RBAC allows it (create on serviceaccounts/token). One of the control plane's own
// namespace is for the whole mesh, one of another namespace for that namespace alone. Package reach is the other side.
package api
