package keep

import (
	"errors"
	"fmt"
)

// Code is why nothing can be signed now. The values are part of the signer's API.
type Code string

// Why nothing can be signed.
const (
	Missing     Code = "ca-missing"     // the bundle is there and the CA is not
	Corrupt     Code = "ca-corrupt"     // the CA cannot be read
	Mismatch    Code = "ca-mismatch"    // the CA is not the one that the bundle belongs to
	Exposed     Code = "ca-exposed"     // others can read its keys
	NotLeading  Code = "not-leader"     // another process signs
	Unavailable Code = "ca-unavailable" // where it is stored does not answer, and nothing was loaded before
)

// Codes are all of them.
func Codes() []Code { return []Code{Missing, Corrupt, Mismatch, Exposed, NotLeading, Unavailable} }

// Fault is why nothing can be signed now.
type Fault struct {
	Code    Code
	Message string // what is wrong, and what to do
	cause   error  // may be nil
}

func (f *Fault) Error() string {
	if f.cause != nil {
		return f.Message + ": " + f.cause.Error()
	}
	return f.Message
}

func (f *Fault) Unwrap() error { return f.cause }

// ErrorCode is the code as callers of the signer are told.
func (f *Fault) ErrorCode() string { return string(f.Code) }

// CodeOf gives the code of a fault, "" for other errors.
func CodeOf(err error) Code {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Code
	}
	return ""
}

// errChanged is that what is stored is no longer what was read: another process wrote it.
var errChanged = errors.New("it was changed by another process meanwhile")

func missing(s store) *Fault {
	return &Fault{Code: Missing, Message: fmt.Sprintf("the CA (%s) is gone, but %s knows that there was one: "+
		"restore it from a backup, or give it up (docs/identity.md, recovery); no new root is made", s.caName(), s.trustName())}
}

func corrupt(s store, cause error) *Fault {
	return &Fault{Code: Corrupt, cause: cause, Message: fmt.Sprintf("the CA (%s) cannot be used: "+
		"restore it from a backup, or give it up (docs/identity.md, recovery); no new root is made", s.caName())}
}

func mismatch(s store) *Fault {
	return &Fault{Code: Mismatch, Message: fmt.Sprintf("the CA (%s) is not the one whose fingerprint %s knows: "+
		"restore the right one from a backup, or give it up (docs/identity.md, recovery); nothing is signed with it", s.caName(), s.trustName())}
}
