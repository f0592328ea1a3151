// Package probe answers the kubelet in the place of the applications of a pod.
//
// The kubelet has no certificate, so a port that takes mutual TLS only would refuse its probes, and the hooks by which it
// tells a container of its begin and end. Injection therefore makes them questions to the agent, which performs them itself,
// from inside the pod and past Envoy: by the same rules, at the same address of the pod, with the same result.
//
// A [Server] answers at an address that everybody reaches. So it knows who asks by the first part of the path alone, which
// injection made up and only the pod's specification has. Whoever does not know it gets no answer, not even a refusal:
//
//	/PREFIX/readyz                      the agent's own readiness, for the pod's init container too
//	/PREFIX/probe/CONTAINER/KIND        liveness, readiness or startup of a container
//	/PREFIX/probe/CONTAINER/HOOK        its postStart or preStop
//
// For a hook any answer of the application is a success, as it is for the kubelet, and it may take as long as it likes. One
// that fails has no answer at all: only that is a failure to the kubelet, whatever the status. The log says why.
package probe
