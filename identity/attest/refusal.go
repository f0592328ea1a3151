package attest

import "errors"

// Reason is why somebody got no identity. The values are part of the signer's API and of its metrics.
type Reason string

// Why attestation refuses.
const (
	NoToken           Reason = "no-token"           // none was sent
	TokenMalformed    Reason = "token-malformed"    // it is no ServiceAccount token, or too long
	TokenExpired      Reason = "token-expired"      // its time is over
	WrongAudience     Reason = "wrong-audience"     // it was made for somebody else
	TokenRefused      Reason = "token-refused"      // the API server does not accept it
	NotServiceAccount Reason = "not-serviceaccount" // it is accepted, but is no ServiceAccount's
	NotPodBound       Reason = "not-pod-bound"      // it does not name one pod, its UID and its node
	PodUnknown        Reason = "pod-unknown"        // no such pod is known, or not yet
	PodReplaced       Reason = "pod-replaced"       // the pod of that name has another UID
	AccountMismatch   Reason = "account-mismatch"   // the pod runs as another ServiceAccount
	PodTerminal       Reason = "pod-terminal"       // the pod has finished, or its deletion is past its grace period
	NodeMismatch      Reason = "node-mismatch"      // the pod runs on another node
	NotMeshed         Reason = "not-meshed"         // the pod has no sidecar of ours
	PodRateLimited    Reason = "pod-rate-limited"   // this pod asks too often
	RateLimited       Reason = "rate-limited"       // all together ask too often
	ReviewUnavailable Reason = "review-unavailable" // the API server does not answer
	JoinRefused       Reason = "join-refused"       // the join token is unknown, spent or expired
	RenewalRefused    Reason = "renewal-refused"    // the certificate does not name one of our pods
)

// Passing says that the same request may succeed a little later.
func (r Reason) Passing() bool {
	switch r {
	case PodUnknown, PodRateLimited, RateLimited, ReviewUnavailable:
		return true
	}
	return false
}

// Refusal is a refusal to say who asks. Its text may be shown to the caller: it holds no token.
type Refusal struct {
	Reason  Reason
	Message string // what is wrong, and what to do about it
	cause   error  // for the log; may be nil
}

func (r *Refusal) Error() string {
	if r.cause != nil {
		return r.Message + ": " + r.cause.Error()
	}
	return r.Message
}

func (r *Refusal) Unwrap() error { return r.cause }

// ReasonOf gives the reason of a refusal, "" for other errors.
func ReasonOf(err error) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return ""
}

func refuse(r Reason, message string) *Refusal { return &Refusal{Reason: r, Message: message} }
