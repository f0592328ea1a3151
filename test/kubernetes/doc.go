// Package kubetest runs a real Kubernetes API server for tests: etcd and kube-apiserver, built from their Go modules
// into the user's cache once ([Install]), started when the first test asks for it, and gone with the test binary
// however that ends. There are no controllers: what they would write, such as EndpointSlices, tests write themselves.
//
// A package whose tests need one owns it in its TestMain, and each test takes a namespace of its own:
//
//	var api = kubetest.New()
//
//	func TestMain(m *testing.M) { os.Exit(api.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		namespace, client := api.Namespace(t), api.Client(t)
//		...
//	}
//
// A test that stops the API server must not share it with tests that run at the same time: see [Server.Kill].
//
// A whole cluster, with controllers and pods, is package cluster's matter; [InstallAll] builds the programs for it.
//
// For another version, change k8s.io/kubernetes v1.N.P and its replacements v0.N.P in binaries/go.mod, etcd to what
// Kubernetes asks for, and run go mod tidy there. containerd and CoreDNS have modules of their own, beside it, since they
// ask for other versions of the same libraries.
package kubetest
