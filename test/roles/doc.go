// Package roles tests a control plane of two kinds of processes against a real API server: the signer, which alone may
// read the CA, and the server, which gets its identity from it. Each has a ServiceAccount with the rights of rights.go, and
// no others.
//
//	rights.go         what each role may do
//	cluster_test.go   what there is in the cluster: accounts, pods, webhook configurations, and what the kubelet mounts
//	town_test.go      the control plane, and those who ask it
//	roles_test.go     identities, configuration, rotations, refusals
//	restarts_test.go  both roles as processes that are killed
//	signers_test.go   several signers, of which one leads and is killed
//	settings_test.go  settings that differ between a server and its signer
//	chart_test.go     the chart grants the same rights
package roles
