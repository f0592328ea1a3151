package attest

import "fmt"

// Pod is what the API server says of a pod, as far as attestation asks.
type Pod struct {
	UID      string
	Account  string // its ServiceAccount
	Node     string // "" before it is scheduled
	Meshed   bool   // it carries the label that injection sets
	Finished bool   // it succeeded or failed; its containers never run again
	Gone     bool   // it was deleted and its grace period is over
}

// Pods finds a pod in what was last heard from the API server. It must be safe for concurrent use.
type Pods interface {
	Pod(namespace, name string) (Pod, bool)
}

// check holds what a token says against what the API server says of the pod.
func (s subject) check(pods Pods, controlPlane string) *Refusal {
	name := fmt.Sprintf("pod %s/%s", s.namespace, s.pod)
	p, refusal := s.present(pods)
	switch {
	case refusal != nil:
		return refusal
	case p.Node == "" || p.Node != s.node:
		return refuse(NodeMismatch, name+" is not on the node that the token names")
	case !p.Meshed && s.namespace+"/"+s.account != controlPlane:
		return refuse(NotMeshed, name+" has no sidecar of the mesh; label it or its namespace for injection and make it anew")
	}
	return nil
}

// present looks for the pod that a token or a certificate names. A pod that is being deleted still gets identities
// during its grace period: it still has requests to finish.
func (s subject) present(pods Pods) (Pod, *Refusal) {
	name := fmt.Sprintf("pod %s/%s", s.namespace, s.pod)
	p, ok := pods.Pod(s.namespace, s.pod)
	switch {
	case !ok:
		return p, refuse(PodUnknown, name+" is not known (yet, or any more); ask again")
	case p.UID != s.podUID:
		return p, refuse(PodReplaced, name+" is another one than this identity was made for (its UID differs); use the running pod's token")
	case p.Account != s.account:
		return p, refuse(AccountMismatch, name+" runs as another ServiceAccount than this identity's")
	case p.Finished || p.Gone:
		return p, refuse(PodTerminal, name+" has ended; only a running pod has an identity")
	}
	return p, nil
}
