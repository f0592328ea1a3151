// Package workloadapi serves the SPIFFE Workload API, X.509 and JWT profiles, to the applications of one pod
// (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md).
//
// There is one identity and everybody who can open the socket has it: what a caller says of itself is not asked for.
// Streams get the new documents when they change. As long as there are none, callers wait.
package workloadapi
