// Package service is the signer: the HTTPS API by which sidecars get certificates, JWTs and the trust bundle.
//
//	POST /v1/svid     a certificate for the key of a CSR; by a token, or with manifests by the certificate one has
//	POST /v1/serving  one with DNS names, for the control plane's own servers and nobody else
//	POST /v1/jwt      a JWT-SVID of the caller's own ID
//	GET  /v1/bundle   the trust bundle, as soon as it is another one than the caller has
//	GET  /v1/facts    anchors, issuers and leaves, for people
//
// TLS 1.3 only, without resumption: a resumed session would skip the look at the certificate. A client certificate is
// verified at the handshake and again for every request, since connections outlive certificates and bundles.
//
// Who asks is found out by package attest, and nothing in a request decides it. [ForCluster] takes what attests in a
// cluster and [ForFiles] what attests sidecars that one process starts itself; neither takes the other's, and the
// latter serves on loopback addresses only.
//
// Errors are JSON, {"code": "...", "message": "..."}, with a code that is stable and a message that says what to do.
package service
