package client

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is a refusal of the signer.
type Error struct {
	Status  int    // of HTTP
	Code    string // stable; "" if the answer was not the signer's own
	Message string // what is wrong and what to do, for people
}

func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the signer answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the signer refused (%s): %s", e.Code, e.Message)
}

// Retryable says whether the same call may succeed later without anybody's help. What the signer finds wrong with the
// request itself stays wrong; a token may be renewed by the kubelet, limits pass, and who cannot be reached may be back.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return true
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= http.StatusInternalServerError
}
