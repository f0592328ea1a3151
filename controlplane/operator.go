package controlplane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
)

// Operator answers whoever runs this control plane, on a unix socket that only that user may open: the kernel says who
// calls, and no password or port is needed.
//
//	POST /v1/join      all that a sidecar of a pod needs to start, a join token included; not in a cluster
//	GET  /v1/identity  anchors, the rotation, and every sidecar's certificate
//	POST /v1/rotate    begin to move to another CA
//	POST /v1/abort     turn a rotation back
//	POST /v1/recover   give up a CA that is gone, so that a new root is made
type Operator struct {
	plane  *Plane // nil: the signer is alone
	signer *Signer
}

// NewOperator makes what answers for a control plane and its signer; without p for a signer alone.
func NewOperator(p *Plane, s *Signer) *Operator { return &Operator{p, s} }

// maxOrder bounds what an operator sends, in bytes.
const maxOrder = 1 << 20

// Run answers on the socket until ctx ends.
func (o *Operator) Run(ctx context.Context, l net.Listener) error {
	s := &http.Server{Handler: o.Handler(), ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("answer operators: %w", err)
	case <-ctx.Done():
	}
	err := s.Close()
	<-ended
	return err
}

// Handler answers one request.
func (o *Operator) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+operator.IdentityPath, o.facts)
	mux.HandleFunc("POST "+operator.JoinPath, o.join)
	told := api.Handler(api.Options{Mesh: o.plane, Authenticator: api.Owner{}, Version: buildinfo.Get()})
	for _, path := range []string{api.VersionPath, api.HealthPath, api.ProxiesPath, api.ProxiesPath + "/"} {
		mux.Handle("GET "+path, told)
	}
	mux.HandleFunc("POST "+operator.RotatePath, o.rotate)
	mux.HandleFunc("POST "+operator.AbortPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, o.signer.Keeper().Abort(r.Context()))
	})
	mux.HandleFunc("POST "+operator.RecoverPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, o.signer.Keeper().Recover(r.Context()))
	})
	return mux
}

func (o *Operator) facts(w http.ResponseWriter, r *http.Request) {
	o.signer.await(r.Context())
	f, err := o.signer.Facts()
	answer(w, f, err)
}

func (o *Operator) join(w http.ResponseWriter, r *http.Request) {
	var ask operator.Ask
	if err := readOrder(w, r, &ask); err != nil {
		answer(w, nil, err)
		return
	}
	j, err := o.joining(r.Context(), ask.Pod)
	answer(w, j, err)
}

func (o *Operator) joining(ctx context.Context, name string) (operator.Join, error) {
	key, ok := podNamed(name)
	if !ok {
		return operator.Join{}, fmt.Errorf("%q names no pod: want namespace/pod", name)
	}
	if o.plane == nil {
		return operator.Join{}, errNoJoin(key)
	}
	o.signer.await(ctx)
	pod, err := o.plane.Pod(ctx, key)
	if err != nil {
		return operator.Join{}, err
	}
	id, err := identity.ID(o.signer.ID().TrustDomain(), key.Namespace, pod.ServiceAccount)
	if err != nil {
		return operator.Join{}, err
	}
	bundle, err := o.signer.bundle()
	if err != nil {
		return operator.Join{}, err
	}
	text, err := identity.MarshalBundle(bundle)
	if err != nil {
		return operator.Join{}, err
	}
	token, err := o.signer.Join(pod)
	if err != nil {
		return operator.Join{}, err
	}
	return operator.Join{
		ID: id.String(), Token: token, Bundle: text, Labels: pod.Labels.Map(),
		Signer:       operator.Endpoint{Address: o.signer.Address(), ID: o.signer.ID().String()},
		ControlPlane: operator.Endpoint{Address: o.plane.options.Door.Listener.Addr().String(), ID: o.signer.ServerID().String()},
	}, nil
}

func (o *Operator) rotate(w http.ResponseWriter, r *http.Request) {
	var to operator.Rotation
	if err := readOrder(w, r, &to); err != nil {
		answer(w, nil, err)
		return
	}
	var next *identity.Authority
	if to.Certificates != "" {
		var err error
		next, err = identity.LoadAuthority(o.signer.ID().TrustDomain(), identity.Material{
			Certificates: []byte(to.Certificates), Key: []byte(to.Key), Anchors: []byte(to.Anchors), JWTKey: []byte(to.JWTKey),
		}, time.Now())
		if err != nil {
			answer(w, nil, err)
			return
		}
	}
	answer(w, struct{}{}, o.signer.Keeper().Rotate(r.Context(), next))
}

func readOrder(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

// answer writes what was asked for, or why there is none. A caller that has gone away is its own affair.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		v = operator.Problem{Code: codeOf(err), Message: err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// codeOf gives the code by which docs/identity.md tells of an error, if it has one.
func codeOf(err error) string {
	return cmp.Or(string(keep.CodeOf(err)), string(identity.CodeOf(err)))
}

// ListenPrivate makes a unix socket that only its owner may dial, in place of one that a killed process left.
func ListenPrivate(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode of the socket's inode becomes that of the file (Linux), so there is no moment at which others may dial it.
	closed := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	l, err := closed.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for operators on %s: %w", path, err)
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way of the socket for operators and is no socket: remove it or choose another --socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fmt.Errorf("another control plane serves on %s: stop it or choose another --socket", path), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the stale socket %s: %w", path, err)
	}
	return nil
}
