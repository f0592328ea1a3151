// Package e2e holds tests on a real Kubernetes: real pods, real traffic between them. `make e2e` starts a cluster for
// them, with the images of this source in it (package cluster), and removes all of it afterwards; it needs Linux and root.
// `KUBECONFIG=... make e2e` uses one that is there, into which the images were loaded before: `go run ./test/cluster/ctl
// images` makes them and says where they are.
//
// The tests are behind the build tag e2e, so that `go test ./...` needs no root. A run in which no test used the cluster
// fails: there is no way to pass with nothing run.
//
// A test takes a namespace of its own, applies manifests and looks at what pods meet:
//
//	func TestSomething(t *testing.T) {
//		ns := env.namespace(t)
//		ns.apply("testdata/http-echo.yaml")
//		ns.wait("deployment/http-echo", "condition=Available")
//		if got := ns.exec("ubuntu", "curl", "-sS", "http://http-echo"); ...
//	}
//
// One that needs the mesh asks for it, after it has said that it runs in parallel; it is installed once, and stays:
//
//	t.Parallel()
//	env.mesh(t)
//
// What the namespace holds, and what happened in it, is printed with a test that fails.
package e2e
