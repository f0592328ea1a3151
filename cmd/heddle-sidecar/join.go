package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/sidecar"
)

// joinExcludes are the flags that the control plane's answer stands for.
func joinExcludes() []string {
	return []string{
		"trust-domain", "namespace", "service-account", "labels-file", "signer", "signer-id", "control-plane", "control-plane-id",
		"bundle", "token-file", "join-token-file",
	}
}

// join asks the control plane on this machine for all that a sidecar has to know, and fills the flags in. The function
// that it gives removes what it made.
func (s *settings) join(ctx context.Context, f *pflag.FlagSet) (clean func() error, err error) {
	for _, name := range joinExcludes() {
		if f.Changed(name) {
			return nil, fmt.Errorf("--%s and --join: the control plane says that itself; give one of them", name)
		}
	}
	got, err := s.ask(ctx, s.pod)
	if err != nil {
		return nil, err
	}
	id, err := spiffeid.FromString(got.ID)
	if err != nil {
		return nil, fmt.Errorf("--join: the control plane's answer: %w", err)
	}
	if s.namespace, s.account, err = identity.Split(id); err != nil {
		return nil, fmt.Errorf("--join: the control plane's answer: %w", err)
	}
	pod := s.pod
	_, s.pod, _ = strings.Cut(pod, "/") // the control plane knows it, so there is one
	s.trustDomain = id.TrustDomain().Name()
	s.signer, s.signerID = got.Signer.Address, got.Signer.ID
	s.plane, s.planeID = got.ControlPlane.Address, got.ControlPlane.ID
	s.labels, s.token = got.Labels, sidecar.NewToken(got.Token)
	if s.captureBind == "" && s.captureApp == "" {
		s.captureBind, s.captureApp = captureFor(pod)
	}
	clean = func() error { return nil }
	if !f.Changed("dir") {
		if s.dir, err = os.MkdirTemp("", "heddle-sidecar-"); err != nil {
			return nil, fmt.Errorf("--join: make a directory for the sockets: %w", err)
		}
		clean = func() error { return os.RemoveAll(s.dir) }
	} else if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	s.bundle = filepath.Join(s.dir, "bundle.json")
	if err := keepBundle(s.bundle, got.Bundle); err != nil {
		return nil, errors.Join(err, clean())
	}
	return clean, nil
}

func (s *settings) ask(ctx context.Context, pod string) (got operator.Join, err error) {
	if err := (operator.Client{Socket: s.joinSocket}).Call(ctx, http.MethodPost, operator.JoinPath, operator.Ask{Pod: pod}, &got); err != nil {
		return operator.Join{}, fmt.Errorf("--join: %w", err)
	}
	return got, nil
}

// keepBundle puts the trust bundle in its file, in one step: the agent reads it at any time.
func keepBundle(path string, text []byte) error {
	if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("--join: keep the trust bundle: %w", err)
	}
	return nil
}

// joinAgain gives the token of the first answer, and from then on asks anew. The bundle comes with it: the one that the
// agent has may be of before a rotation.
func (s *settings) joinAgain(first sidecar.Token) func(context.Context) (sidecar.Token, error) {
	node := s.node()
	return func(ctx context.Context) (sidecar.Token, error) {
		if token := first; !token.IsZero() {
			first = sidecar.Token{}
			return token, nil
		}
		got, err := s.ask(ctx, node)
		if err != nil {
			return sidecar.Token{}, err
		}
		return sidecar.NewToken(got.Token), keepBundle(s.bundle, got.Bundle)
	}
}

// joinFile gives the token in a file, as it is at each time. A pipe, such as /dev/stdin, is read once.
func joinFile(path string) (func(context.Context) (sidecar.Token, error), error) {
	read := func(context.Context) (sidecar.Token, error) {
		text, err := os.ReadFile(path)
		token := sidecar.NewToken(strings.TrimSpace(string(text)))
		switch {
		case err != nil:
			return sidecar.Token{}, fmt.Errorf("--join-token-file: %w", err)
		case token.IsZero():
			return sidecar.Token{}, fmt.Errorf("--join-token-file: %s is empty", path)
		}
		return token, nil
	}
	first, err := read(context.Background())
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return func(context.Context) (sidecar.Token, error) { return first, nil }, nil
	}
	return read, nil
}

// captureFor chooses the loopback network of a sidecar that is started by hand, where nothing redirects traffic: one of
// 127.64.0.0/16 to 127.191.0.0/16, always the same one for a pod.
func captureFor(pod string) (bind, app string) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pod)) // it never fails
	n := 64 + h.Sum32()%128
	return fmt.Sprintf("127.%d.0.0/16", n), fmt.Sprintf("127.%d.255.1", n)
}

// labelsOrFile are the pod's labels, from the control plane's answer or from a file.
func (s *settings) labelsOrFile() (map[string]string, error) {
	if s.joinSocket != "" {
		return maps.Clone(s.labels), nil
	}
	return readLabels(s.labelsFile)
}
