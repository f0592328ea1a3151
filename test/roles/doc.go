// Package roles tests a control plane of two kinds of processes against a real API server: the signer, which alone may
// read the CA, and the server, which gets its identity from it. Each has a ServiceAccount with the rights of rights.go, and
// no others.
//
//	rights.go       what each role may do, which is what the chart must grant
//	town_test.go    the control plane, and those who ask it
//	cluster_test.go what there is in the cluster: accounts, pods, webhook configurations, and what the kubelet mounts
//	roles_test.go   the tests
//	restarts_test.go and the roles as processes that are killed; chart_test.go holds the chart to the same rights
package roles
