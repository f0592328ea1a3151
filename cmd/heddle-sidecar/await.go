package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/sidecar"
)

// askAgain is the pause between two questions to the agent, which holds its answer back while waiting helps.
const askAgain = 50 * time.Millisecond

// errTold is no failure of the init container: the pod is deleted while it waits.
var errTold = errors.New("told to end before the sidecar could route; what it waited for stands above, and in the sidecar's own log")

// await returns when the agent that answers at a URL says that its sidecar can route, and prints why it cannot whenever that
// changes. What waits for this program to end waits for the sidecar so.
func await(ctx context.Context, at string, out io.Writer) error {
	client := &http.Client{
		Timeout:   patience + time.Second,
		Transport: &http.Transport{DisableKeepAlives: true}, // and no proxy: it is in this pod
	}
	var said string
	for {
		why, err := askReady(ctx, client, at)
		switch {
		case ctx.Err() != nil:
			return errTold
		case errors.Is(err, syscall.ECONNREFUSED): // the agent is just starting, or its own log says why it does not
			why = "the agent does not answer yet"
		case err != nil:
			why = err.Error()
		case why == "":
			return nil
		}
		if why != said {
			if _, err := fmt.Fprintf(out, "the application has to wait: %s\n", why); err != nil {
				return fmt.Errorf("say why the application has to wait (%s): %w", why, err)
			}
			said = why
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// askReady gives the reasons why the sidecar cannot route; none, if it can.
func askReady(ctx context.Context, client *http.Client, at string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", fmt.Errorf("ask the agent whether it is ready: %w", cause(err))
	}
	response, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask the agent whether it is ready: %w", cause(err))
	}
	defer response.Body.Close()
	var s sidecar.Status
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&s); err != nil {
		return "", fmt.Errorf("read whether the agent is ready, from an answer with status %d: %w", response.StatusCode, err)
	}
	switch {
	case s.Ready:
		return "", nil
	case len(s.Reasons) == 0:
		return "", fmt.Errorf("the agent is not ready and does not say why, in an answer with status %d", response.StatusCode)
	}
	return strings.Join(s.Reasons, "; "), nil
}

// cause leaves the address out of an error: its path is a secret, and its ports are others each time.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if o, ok := errors.AsType[*net.OpError](err); ok {
		err = o.Err
	}
	return err
}
