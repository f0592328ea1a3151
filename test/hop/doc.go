// Package hop measures what a request pays for the way through two sidecars: against two Envoys by hand, which do no
// more than carry HTTP over HTTP/2 and mutual TLS with certificates that never change.
package hop
