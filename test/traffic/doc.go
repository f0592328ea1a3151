// Package traffic is what two applications say to each other while something happens to the mesh: requests over HTTP/1.1 and
// HTTP/2 in equal shares, and three conversations, each over one connection that stays: a WebSocket, a stream of HTTP/2
// and TCP. Everything is counted, and none of it may fail.
//
//	traffic.Serve(t, traffic.Addresses{HTTP: "127.1.0.2:8080", TCP: "127.1.0.2:8082"})          // the server's side
//	load := traffic.Begin(t, traffic.Addresses{HTTP: "127.2.0.1:8080", TCP: "127.2.0.1:8082"}, traffic.Full)
//	load.More(20 * time.Second) // as many answers as come in that time
//	load.Finish()               // fails the test if anything has failed
//
// HEDDLE_OUTAGE_LOAD=60s says how long a load lasts at least, and wants 90 % of its rate to be reached: [Soak]. make soak
// sets it.
package traffic
