package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/heddle-mesh/heddle/check"
)

// withHint adds to an error of an API server what to do next. What is forbidden is left to who knows what was wanted.
func withHint(err error) error {
	if hint := check.FaultHint(err); hint != "" {
		return fmt.Errorf("%w; %s", err, hint)
	}
	if to, ok := errors.AsType[*url.Error](err); ok {
		if u, parseErr := url.Parse(to.URL); parseErr == nil && u.Scheme == "https" {
			return fmt.Errorf("%w; the API server %s does not answer: kubectl cluster-info tells whether it does for kubectl, and --context names another cluster", err, u.Host)
		}
	}
	return err
}
