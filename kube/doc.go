// Package kube tells the mesh what Kubernetes says, or a folder of its manifests, and keeps what must outlive a
// restart.
//
//   - [Cluster] and [Folder] are sources: their Run hands on the facts of package model as batches of events, first
//     everything there is, then one event with Synced, then what changes. An unchanged fact is never handed on again.
//   - [Revisions] and [StateFolder] keep the last good version of every policy.
//
// Both sources use the same pure conversions, the functions that end in Of, so that a manifest means in a folder
// what it means in a cluster. Nothing here knows of Envoy, and nothing joins facts: that is package mesh.
package kube
