package local

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/test/wait"
)

const pod = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {heddle.dev/sidecar: "true"}}
spec: {serviceAccountName: web, containers: [{name: app, image: "example/web:1"}]}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}]}
`

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestASidecarRenewsAsLongAsTheManifestsHaveItsPod(t *testing.T) {
	dir := t.TempDir()
	manifest := filepath.Join(dir, "manifests", "mesh.yaml")
	if err := errors.Join(os.Mkdir(filepath.Dir(manifest), 0o700), os.WriteFile(manifest, []byte(pod), 0o600)); err != nil {
		t.Fatal(err)
	}
	m := must(New(Options{Dir: dir, Log: zerolog.Nop(), Plane: controlplane.Options{
		Source: kube.NewFolder(kube.FolderOptions{Dir: filepath.Dir(manifest)}), Drain: time.Millisecond,
	}}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the signer signs", func() bool { return m.signer.Keeper().Ready() == nil })

	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	web := model.Key{Namespace: "shop", Name: "web-1"}
	token := must(m.signer.Join(must(m.plane.Pod(t.Context(), web))))
	var cert *tls.Certificate
	bundle := func() (*spiffebundle.Bundle, error) {
		b, _, err := m.signer.Keeper().Bundle()
		return b, err
	}
	c := client.New(client.Options{
		Address: m.signer.Address(), Signer: m.signer.ID(), Bundle: bundle, Certificate: func() *tls.Certificate { return cert },
	})
	defer c.Close()
	got := must(c.SVID(t.Context(), token, csr))
	cert = &tls.Certificate{PrivateKey: key, Leaf: got.Chain[0]}
	for _, each := range got.Chain {
		cert.Certificate = append(cert.Certificate, each.Raw)
	}
	if _, err := c.SVID(t.Context(), "", csr); err != nil {
		t.Fatalf("while there is the pod: %v", err)
	}

	if err := os.WriteFile(manifest, []byte(strings.ReplaceAll(pod, "web-1", "web-2")), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is gone", func() bool { _, err := m.Join(t.Context(), web); return err != nil })
	_, err := c.SVID(t.Context(), "", csr)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "renewal-refused" {
		t.Errorf("without the pod: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, 30*time.Second, what, ok)
}
