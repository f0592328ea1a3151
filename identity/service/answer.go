package service

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/rs/zerolog"
	kjson "sigs.k8s.io/json"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// maxBody bounds a request's body, in bytes. A CSR for P-256 has about 500 as JSON.
const maxBody = 64 << 10

// Codes of what this package itself refuses. The others come from packages attest and identity, and from whoever keeps
// the CA.
const (
	codeRequest       = "request"              // the body or the query cannot be read
	codeTooLarge      = "too-large"            // the body is larger than 64 KiB
	codeNotFound      = "not-found"            // no such path
	codeMethod        = "method"               // not with this method
	codeNoCertificate = "no-certificate"       // the caller showed none
	codeBusy          = "busy"                 // this sidecar asks too often, or too much at once
	codeAddress       = "address-rate-limited" // too many tokens come from one address
	codeForbidden     = "forbidden"            // facts are for others
	codeServing       = "not-control-plane"    // DNS names are for the control plane, and its own ones only
	codeStopping      = "stopping"             // this signer ends
	codeNotLeader     = "not-leader"           // another replica signs
	codeInternal      = "internal"             // look at the signer's log
)

// problem is an answer that is none: what the caller is told.
type problem struct {
	status  int
	code    string
	message string
	cause   error // for the log, may be nil
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.message + ": " + p.cause.Error()
	}
	return p.message
}

// coded is an error that has a stable code, by which whoever keeps the CA says why nothing can be signed.
type coded interface{ ErrorCode() string }

// problemOf finds what to tell the caller of an error.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if r, ok := errors.AsType[*attest.Refusal](err); ok {
		return &problem{statusOf(r.Reason), string(r.Reason), r.Message, errors.Unwrap(r)}
	}
	if c := identity.CodeOf(err); c != "" {
		return &problem{statusOfCode(c), string(c), err.Error(), nil}
	}
	if c, ok := err.(coded); ok {
		return &problem{http.StatusServiceUnavailable, c.ErrorCode(), err.Error(), nil}
	}
	return &problem{http.StatusInternalServerError, codeInternal, "the signer failed; its log says how", err}
}

func statusOf(r attest.Reason) int {
	switch r {
	case attest.NoToken, attest.TokenMalformed, attest.TokenExpired, attest.WrongAudience, attest.TokenRefused, attest.JoinRefused:
		return http.StatusUnauthorized
	case attest.PodRateLimited, attest.RateLimited:
		return http.StatusTooManyRequests
	case attest.ReviewUnavailable, attest.PodUnknown:
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

func statusOfCode(c identity.Code) int {
	switch c {
	case identity.CodeIssuerExpiring, identity.CodeNoJWT, identity.CodeAuthority, identity.CodeBundle:
		return http.StatusServiceUnavailable
	case identity.CodeLint:
		return http.StatusInternalServerError
	case identity.CodeChain, identity.CodeExpired, identity.CodeTrustDomain, identity.CodeLeafUsage, identity.CodePodMissing, identity.CodeIDShape:
		return http.StatusUnauthorized
	}
	return http.StatusBadRequest
}

// read reads a body strictly: one JSON value, no field that is unknown, twice there or in another case.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &problem{http.StatusUnsupportedMediaType, codeRequest, "the body must be application/json", nil}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{http.StatusRequestEntityTooLarge, codeTooLarge, "the body has more than 65536 bytes", nil}
	}
	if err != nil {
		return &problem{http.StatusBadRequest, codeRequest, "the body did not arrive", err}
	}
	strict, err := kjson.UnmarshalStrict(text, into)
	if err = errors.Join(append(strict, err)...); err != nil {
		return &problem{http.StatusBadRequest, codeRequest, "the body is not what this path takes", err}
	}
	return nil
}

func write(w http.ResponseWriter, log zerolog.Logger, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil { // nothing that is written here lacks a JSON form
		log.Error().Err(err).Msg("could not write an answer")
		status, text = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the signer failed; its log says how"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		log.Debug().Err(err).Msg("the caller went away before its answer")
	}
}
