// Package sds gives an Envoy its secrets (Envoy's secret discovery service, delta and state of the world).
//
// A [Server] holds a fixed set of names. [Server.Set] replaces one secret, and every stream that asked for it gets the
// new one, alone in its response: a secret that Envoy refuses cannot take another one with it. What Envoy says back is
// kept: [Server.Taken] is the version that it has in use, [Server.Refused] how often it refused one.
//
// What a stream gets depends on the names that it asks for and on nothing else. The node that a client claims to be is
// not read. Who may ask is decided by the socket: it belongs in a directory that only Envoy's user can enter.
package sds
