// Command bench measures the serving core with simulated proxies, each part a process of its own:
//
//	servers   heddle  our xds.Server
//	          floor   grpc-go sending one message that is marshalled already, the least that a push can cost
//	          door    the whole control plane, where sidecars dial it: facts, translation and mutual TLS
//	          stock   go-control-plane's server and snapshot cache, fed the same resources
//	fleet     the proxies, with Envoy's rules of subscription, over a unix socket
//	main      tells them what to do, in turns, and prints what it cost
//
// It ends with an error if any proxy's state differs from the store's. Run it with: go run ./test/bench
package main
