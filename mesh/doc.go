// Package mesh joins facts and policies into views: what Kubernetes says and what people ask for, turned into
// what one translation needs. It is the only place where a policy meets a Service, and a Service its pods.
//
// [State] is the whole package: [State.Apply] takes a batch of changed facts and answers which views changed,
// and the views are read from it afterwards. It is pure: no clock, goroutine, log or client. One goroutine owns
// a State; the views that it hands out are immutable and may go anywhere.
//
// The work of a change does not grow with the mesh. Each event marks what may look different because of it, by
// reverse indexes (pod to slices, slice to Service, Service to the Services whose routes name it), and Apply
// works the marks off in stages, each of which may only mark for later ones:
//
//	facts       indexes are kept, and texts of policies parsed: the last good version counts   facts.go, documents.go
//	reach       slices, pods, nodes and health become endpoints, hops and instances             reach.go, health.go
//	traffic     policies become one resolved Traffic per Service and audience                   traffic.go, targets.go
//	views       Endpoints, Outbound and Workload are put together and compared                  views.go, workload.go, inbound.go
//	            (of a Service with a pod whose health check is gone, reach is made anew before)
//	report      writers of policies are told what has effect, and what has to be saved          status.go, notices.go
//
// What a field of the policy language becomes stands in the file of its name: retries.go, match.go and so on.
//
// A view that is equal to the one before is not reported. Only a change of mesh-wide defaults visits everything.
package mesh
