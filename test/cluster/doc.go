// Package cluster runs a whole Kubernetes on one Linux machine, for end-to-end tests: etcd, API server, controller manager,
// scheduler, kubelet, kube-proxy, containerd, CoreDNS and real pods, without Docker and without an image registry.
//
//	c, err := cluster.Start(ctx, cluster.Options{Name: "e2e", Images: tars})
//	defer c.Stop(ctx)
//	out, err := c.Kubectl(ctx, "get", "nodes").CombinedOutput()
//
// All of it is in a network namespace of its own that has no route out, so nothing in the cluster can leave the machine.
// The namespace is joined to the machine by one pair of addresses, on which only the API server listens: ordinary clients
// use [Cluster.Kubeconfig] from outside.
//
// # What is whose
//
// A cluster named x owns, and nothing else: the network namespace and the interface heddle-x, the cgroup heddle-x, and the
// folders /var/lib/heddle-x and /run/heddle-x. Each of its processes is in its cgroup from its first instruction, and in a
// mount namespace that nobody else sees. So what must be ended or removed follows from the name alone, also after a crash,
// when nobody is left who could tell: a start first removes what a dead one of that name left. Several can run at once.
//
// # Addresses
//
//	10.10.0.1, fd00:10:10::1            the node
//	10.10.0.0/16, fd00:10:10::/64       pods
//	10.96.0.0/16, fd00:10:96::/112      Services; cluster DNS is 10.96.0.10
//	169.254.N.1 and .2                  the machine's end and the cluster's
//
// Pods have a route each and no bridge, so every packet between them passes the node's nftables. There is no hostPort.
package cluster
