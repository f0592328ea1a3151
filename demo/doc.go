// Package demo is heddle demo: the main job on one machine, without Kubernetes and without root.
//
// It runs the control plane on a folder of manifests (examples/demo), and for every pod in it a small application
// (apps.go) with a real Envoy beside it. Nothing is redirected: each sidecar has a loopback network of its own, in
// which it offers the Services' addresses (shop.go). A load keeps requests coming (load.go).
//
// What is shown is what the sidecars measured (report.go), beside what the policies ask for; where the two disagree
// it says so (check.go). The applications keep a ledger of their own (ledger.go), as a second witness.
//
//	folder -> watcher -> control plane -> Envoys -> observe.Observer -> Report -> screen, lines or JSON
//	             |                                                        |
//	             +---------------- what policies ask for -----------------+
package demo
