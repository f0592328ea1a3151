// Package operator is what goes over the control plane's socket for whoever runs it, and the client of it. It imports
// nothing of ours, so that the agent beside an Envoy can ask as well as heddle can.
package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Paths of the API.
const (
	IdentityPath = "/v1/identity" // GET: what people may know of identities
	JoinPath     = "/v1/join"     // POST: an [Ask] for a [Join]
	RotatePath   = "/v1/rotate"   // POST: a [Rotation]
	AbortPath    = "/v1/abort"    // POST
	RecoverPath  = "/v1/recover"  // POST
)

// Ask names a pod as namespace/name.
type Ask struct {
	Pod string `json:"pod"`
}

// Join is all that the agent of a pod needs to begin with. It has no String and is to be printed nowhere: Token is good
// for the pod's identity, once.
type Join struct {
	ID           string            `json:"id"` // the pod's SPIFFE ID
	Token        string            `json:"token"`
	Bundle       json.RawMessage   `json:"bundle"` // the trust bundle (SPIFFE JWKS)
	Labels       map[string]string `json:"labels,omitempty"`
	Signer       Endpoint          `json:"signer"`
	ControlPlane Endpoint          `json:"controlPlane"`
}

// Endpoint is an address and the one SPIFFE ID that may answer there.
type Endpoint struct {
	Address string `json:"address"`
	ID      string `json:"id"`
}

// Rotation says which CA to move to; without certificates it is a new root of our own. All is PEM.
type Rotation struct {
	Certificates string `json:"certificates,omitempty"` // the CA's own first
	Key          string `json:"key,omitempty"`
	Anchors      string `json:"anchors,omitempty"` // that the certificates lead to
	JWTKey       string `json:"jwtKey,omitempty"`  // that signs tokens; none are signed without
}

// Problem is an answer that is none.
type Problem struct {
	Code    string `json:"code,omitempty"` // stable; docs/identity.md has its cause and remedy
	Message string `json:"message"`
}

// Error gives the message with its code.
func (p *Problem) Error() string {
	if p.Code == "" {
		return p.Message
	}
	return p.Message + " (" + p.Code + ")"
}

// timeout bounds one question: a control plane that has just begun to read its mesh answers a join when it has.
const timeout = 30 * time.Second

// maxAnswer bounds an answer, in bytes: some 400 per sidecar.
const maxAnswer = 64 << 20

// Client asks the control plane behind a unix socket. It takes none but our own user's and root's: what it says and is
// told is as good as the mesh.
type Client struct{ Socket string }

// Call asks, and reads the answer into a pointer; in and out may be nil. It fails with a *Problem if the control plane
// says no.
func (c Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("ask the control plane: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The host is of no meaning on a unix socket, but HTTP wants one.
	r, err := http.NewRequestWithContext(ctx, method, "http://operator"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the control plane: %w", err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.dial(ctx)
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return c.unanswered(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	if err != nil {
		return fmt.Errorf("read the control plane's answer on %s: %w", c.Socket, err)
	}
	if answer.StatusCode != http.StatusOK {
		p := &Problem{}
		if err := json.Unmarshal(text, p); err != nil || p.Message == "" {
			return fmt.Errorf("ask the control plane on %s for %s: %s; it may be of another version", c.Socket, path, answer.Status)
		}
		return p
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the control plane's answer on %s: %w", c.Socket, err)
	}
	return nil
}

// unanswered says what to do when nobody answers.
func (c Client) unanswered(err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		hint = "; start one with heddle serve, or name its socket with --socket"
	case errors.Is(err, fs.ErrPermission):
		hint = "; ask as the user who runs the control plane"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("no control plane answers on %s: %w%s", c.Socket, err, hint)
}
