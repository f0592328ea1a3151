// Package xds serves Envoy configuration: a store of resources and the aggregated discovery service (ADS) that hands
// them to proxies, in the delta and the state-of-the-world (SotW) protocol.
//
// The package knows protobufs and protocols and nothing of a mesh. Who uses it turns whatever it knows into
// [Resource] values ([NewResource] validates and marshals, once) and publishes them into layers of a [Store]. A
// proxy sees an ordered stack of layers, most specific first: the first that holds a name wins, and a wildcard
// subscription is the union of all names. Nearly everything is in one layer that every proxy shares, so a change is
// marked on the streams that it concerns and sent from shared bytes.
//
//	Publish -> Store: slot (a name) -> entry (a layer's content) -> version (a content, and what proxies said of it)
//	           marks `dirty` on each client (the protocol state of one stream) that sees and asked for it
//	        -> stream: client.next builds one response at a time -> gRPC
//	gRPC    -> stream -> client.onDelta, client.onSotw -> subscribe, answer -> stream: client.next ...
//
// Everything in client.go, subscribe.go, answer.go and order.go is the protocol: plain state changes under one lock,
// without sending, goroutines or timers. stream.go and server.go are the shell that does those.
package xds
