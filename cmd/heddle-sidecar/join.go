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
	var got operator.Join
	ask := operator.Ask{Pod: s.pod}
	if err := (operator.Client{Socket: s.joinSocket}).Call(ctx, http.MethodPost, operator.JoinPath, ask, &got); err != nil {
		return nil, fmt.Errorf("--join: %w", err)
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
	if err := os.WriteFile(s.bundle, got.Bundle, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("--join: keep the trust bundle: %w", err), clean())
	}
	return clean, nil
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
