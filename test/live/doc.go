// Package live tests the whole way from a write to the API server to the requests that meet it, while traffic runs
// through real Envoys: what is created, changed and deleted, an API server that dies, a Heddle that restarts, a policy
// that is broken or refused. Every request is counted, and none may fail.
//
//	w := start(t)
//	catalog := w.service("catalog")
//	w.slice("catalog", ready(w.pod("catalog-1")))
//	load := w.load(catalog)               // 150 requests per second from the pod web, once it answers
//	w.policy("catalog", "timeout: 2s")    // and so on
//	load.finish()                         // fails the test if any request failed
//
// All of it is test files:
//
//	world_test.go     a namespace of a real API server, its pods with their sidecars
//	objects_test.go   what tests write to the API server
//	identity_test.go  what a pod proves who it is with, and how it comes by that
//	plane_test.go     the control plane, in this process or in one that can be killed, and record_test.go what it tells
//	replica_test.go   what it would give to a sidecar that has nothing
//	load_test.go      the traffic, and endless_test.go one answer that never ends; outages_live_test.go has that of package traffic
//	wire_live_test.go what is on the wire between two sidecars, read by a relay and by a TLS client of the test
//	*_live_test.go    the other tests, by what happens to the mesh
//	latency_test.go   how long a write takes to reach traffic, for make bench
//
// An API server refuses loopback addresses in EndpointSlices, and without root there are no others. So pods are there
// with addresses of 10.1.0.0/16, and the events of the source are moved into a loopback network of the test's own on
// their way to the control plane (plane_test.go). All else is what runs in a cluster: each test has a signer with its CA in
// a Secret, and agents that show it the tokens of their pods.
package live
