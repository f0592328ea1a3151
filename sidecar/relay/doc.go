// Package relay carries ADS streams of applications in the pod to the control plane.
//
// An application that speaks xDS itself, as gRPC does without a sidecar, has no certificate to show. It connects to a
// unix socket of the agent without one, and the [Relay] passes its streams on over mutual TLS with the pod's identity.
// Messages are passed as they are, byte for byte and unread; metadata is not passed in either direction, and no other
// service is reachable. [Bootstrap] is the file that tells gRPC about the socket (gRFC A27).
package relay
