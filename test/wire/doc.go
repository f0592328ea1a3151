// Package wire runs a small mesh for a test: the control plane on one of the repository's examples, and for every pod
// of that example a real Envoy with an application behind it that a test can program.
//
//	mesh := wire.Start(t, "retries")              // examples/retries.yaml
//	mesh.App("catalog-1").Does(wire.FailFirst(2, 503))
//
//	got := mesh.Get("http://catalog:8080/items")  // from the pod web, through its sidecar and catalog's
//
//	got.WantStatus(200)
//	mesh.App("catalog-1").WantRequests(3)
//
// The tests of this package are one per feature and say what a request met, not what a configuration holds.
//
// Nothing is redirected and nothing needs root: each sidecar binds its listeners in a loopback network of its own, and
// a call to a Service goes to where the caller's sidecar bound that Service's address. The examples' addresses of pods
// (10.1.x.y) are moved into a loopback network as well.
//
// IPv6 has the one loopback address ::1, so that one pod of an example may be there, and listeners stand for addresses of
// either family at loopback addresses of IPv4. A machine without IPv6 has that pod at an address of IPv4.
package wire
