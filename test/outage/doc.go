// Package outage tests what goes on when something of the mesh's identity is replaced, away or broken: a rotation of the
// CA, a control plane or an API server that is down, leaves that expire, a CA that is gone. Requests are counted, and none
// may fail but where a test says that it must.
//
//	m := start(t, options{leaf: 10 * time.Second}) // a control plane, pods web and catalog, with their sidecars
//	load := m.web.load(t, traffic.Full)              // 200 requests per second, and three conversations that never end
//	m.rotate(nil)                                    // from here to there and back
//	m.rotated()
//	load.Finish()                                    // fails the test if any request failed
//
// All of it is test files:
//
//	mesh_test.go       a mesh without a cluster (package local), whose control plane can be stopped and started again
//	pod_test.go        a pod: its sidecar and its application
//	peer_test.go       a TLS client of the test, which reads on the wire who answers
//	rotation_test.go   rotations under load; phases_test.go their edges
//	away_test.go       the control plane is away until leaves have expired
//	ca_test.go         the CA is deleted, damaged, restored, given up
//	session_test.go    sessions that somebody would resume
//
// The load is that of package traffic. What goes on while a control plane that was killed, or the API server, is away for
// seconds is in package live.
package outage
