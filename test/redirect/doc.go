// Package redirect shows a mesh as pods of a cluster meet it: each pod is a network namespace, heddle-sidecar init redirects
// its traffic, and the built heddle-sidecar runs a real Envoy in it as user 1337. Applications know nothing of it: they call
// Services at their ClusterIPs, which nothing but the redirection makes an answer of.
//
// The facts that a cluster would tell are testdata/town.yaml. What is tested is what a caller meets, and the bytes on the
// bridge between the pods. It needs root, as test/pods does, so it is part of make e2e (build tag e2e).
package redirect
