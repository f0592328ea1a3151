// Package sidecar is the agent beside an Envoy: it holds the pod's identity.
//
// An [Agent] makes a key, has it certified, and keeps the certificate and the trust bundle current. It gives them to its
// Envoy by SDS, to applications that ask for it by the SPIFFE Workload API, and carries the xDS streams of proxyless
// applications to the control plane. Each of the three has a unix socket of its own and its own package.
//
// What holds:
//
//   - A private key exists in the memory of the agent, and of those to whom it gives it, and nowhere else. Each
//     certificate has a new one.
//   - What is given out fits together: a certificate whose key, chain or ID is not right never leaves the agent.
//   - Without the signer the agent waits and says why. What it has goes on until it expires, and nothing is ever opened
//     in plain text instead.
//   - Envoy starts after the first certificate and is never restarted: when it ends, the agent ends with its error. The
//     other way round the kernel ends Envoy when the agent dies, so that none runs whose certificate nobody renews.
package sidecar
