// Package redirect sends a pod's TCP traffic through the Envoy in it.
//
// [Rules] is pure: it describes the rules for given [Options]. [Text] writes them as nft would, for people and for golden
// files. [Install] puts them into the kernel of the network namespace that it runs in:
//
//   - What processes of the pod connect to goes to Envoy's port 15001, but for Envoy and the agent (user 1337), for
//     what stays in the pod, and for what is to be skipped.
//   - What others connect to goes to Envoy's port 15006, but for the port where the agent answers the kubelet, and for
//     what is to be skipped.
//   - Nobody connects to 15001 and 15006 themselves: Envoy would take itself for the destination.
//   - What Envoy sends to the pod's own address is for its own inbound side (an application that calls its own Service),
//     unless it comes from 127.0.0.6 or ::6: so come the agent and Envoy to the application.
//   - UDP and whatever else is no TCP stays as it is.
//
// [Await] waits for that, for a sidecar that starts sooner.
//
// Both families are in one nftables table of its own, which is replaced in one transaction; a container that is started
// again leaves the same rules and no gap. Where the kernel lacks parts of nf_tables, iptables-restore does the same if there
// is one, of iptables-nft: the other kind takes more rights than an init container gets.
package redirect
