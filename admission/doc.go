// Package admission is what the API server asks before it takes a pod or a policy.
//
//	POST /inject  a pod that is to be in the mesh: patched, left alone, or refused with the reason and what to do
//	POST /policy  a policy ConfigMap: what heddle policy validate would refuse is refused, the rest taken with warnings
//
// [NewHandler] answers both. It changes nothing anywhere, so that --dry-run=server means what it says. What it needs to
// know comes by small interfaces: [Injector] patches, [Namespaces] knows labels, and [Policies] tries a policy beside what
// runs.
//
// What the API server asks about stands in the chart, deploy/heddle/templates/webhooks.yaml.
package admission
