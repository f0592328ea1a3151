// Package pods gives tests network namespaces that are as those of pods on one node: each has its own addresses of both
// families, and reaches the others over a bridge. Nothing of the machine's own network is touched, and all of it goes when
// the test process ends, however it ends.
//
//	node := pods.New(t)
//	web := node.Pod(t)
//	l := web.Listen(t, "tcp", netip.AddrPortFrom(web.IPv4, 80).String())
//
// It needs root on Linux. Elsewhere a test that asks for it fails: one that was skipped would have shown nothing.
package pods
