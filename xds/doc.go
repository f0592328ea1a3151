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
// What a response may hold, and when, follows from what Envoy 1.40 was seen to do (envoy_test.go holds it to that):
//
//   - It does not confirm clusters while any of them warms, and warms until endpoints are sent, which it does not ask for
//     if it had the cluster before. So they are sent behind the cluster, unasked; behind a new one too, because it
//     registers for them before it reads on. The same goes for the route of a new listener.
//   - To be told that a route does not exist makes it wait for ever, so an empty one stands in.
//   - On a new stream it asks for endpoints before clusters if one is still warming.
//   - It keeps no version of anything in a response that it refused, and runs the good parts all the same. So those are
//     sent once more, and what was sent and never confirmed is in doubt on the proxy's next stream.
//
// testdata tells each rule as a conversation.
//
// Everything in client.go, subscribe.go, answer.go and order.go is the protocol: plain state changes under one lock,
// without sending, goroutines or timers. stream.go and server.go are the shell that does those.
package xds
