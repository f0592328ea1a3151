package identity

import (
	"errors"
	"fmt"
)

// Code names the reason of a refusal. It is stable: metrics, API answers and people's alerts go by it.
type Code string

// Codes of what this package refuses.
const (
	CodeIDShape         Code = "id-shape"         // an ID that is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT
	CodeTrustDomain     Code = "trust-domain"     // of another trust domain
	CodeCSRSize         Code = "csr-size"         // larger than MaxCSR
	CodeCSRSyntax       Code = "csr-syntax"       // no PKCS #10 request, or bytes after it
	CodeCSRSignature    Code = "csr-signature"    // the asker does not hold the key
	CodeCSRCA           Code = "csr-ca"           // asks to become a CA
	CodeKeyType         Code = "key-type"         // not ECDSA on P-256
	CodeSAN             Code = "san"              // not exactly the one name that it may have
	CodeLifetime        Code = "lifetime"         // longer or shorter than allowed
	CodeIssuerExpiring  Code = "issuer-expiring"  // the CA has less than a minute left
	CodeLint            Code = "lint"             // the certificate would break our own rules; a bug
	CodeRequest         Code = "request"          // the request contradicts itself
	CodeChain           Code = "chain"            // does not lead to an authority of the bundle
	CodeExpired         Code = "expired"          // has expired, or something above it has; or is not valid yet
	CodeLeafUsage       Code = "leaf-usage"       // a CA, or a key that may not sign a handshake
	CodePodMissing      Code = "pod-missing"      // the certificate does not say which pod it belongs to
	CodeAudience        Code = "audience"         // a token for nobody
	CodeNoJWT           Code = "jwt-unavailable"  // this authority signs no tokens
	CodeAuthority       Code = "authority"        // a CA that cannot be one
	CodeBundle          Code = "bundle"           // a bundle that cannot be used
	CodeRotationRefused Code = "rotation-refused" // a step that is not safe in this phase
)

// Refusal is an error that has a [Code].
type Refusal struct {
	Code Code
	err  error
}

func (r *Refusal) Error() string { return r.err.Error() }

func (r *Refusal) Unwrap() error { return r.err }

// CodeOf finds the code of the outermost refusal in err; empty if there is none.
func CodeOf(err error) Code {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func refuse(code Code, format string, args ...any) error {
	return &Refusal{Code: code, err: fmt.Errorf(format, args...)}
}
