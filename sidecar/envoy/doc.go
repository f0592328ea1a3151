// Package envoy finds, installs and runs an Envoy.
//
// [Find] gives the path of a binary of the [Version] that Heddle is tested with, installing it into the user's cache
// if there is none. A [Proxy] is one running Envoy: [Proxy.Run] writes its bootstrap into a private directory, starts
// it, copies its log and removes everything when it ends. Envoy is never restarted here: what ended unexpectedly is
// an error with the last lines of its log.
//
// No port is opened: the control plane and the admin interface are unix sockets.
package envoy
