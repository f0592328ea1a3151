//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/test/images"
)

// installed is the mesh that tests share. The first walk takes it away, so whoever needs it asks each time.
type installed struct {
	mu   sync.Mutex
	bin  string // folder with heddle and kubectl in it; empty: not made yet
	ours bool   // the tests have installed it into a cluster that stays
}

// mesh sees to it that Heddle is installed and works. It stays for the tests to come. A test that runs in parallel says so
// before it asks: until then the walk, which does not, may take the mesh away.
func (e *environment) mesh(t *testing.T) {
	t.Helper()
	e.used.Add(1)
	shell := newShell(t, repository(t))
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	if e.found(t) {
		return
	}
	e.installed.ours = true
	for _, command := range []string{
		"heddle install --version " + testVersion + " | kubectl apply -f -",
		"heddle check --wait 3m",
	} {
		if out, err := shell.run(t.Context(), command); err != nil {
			t.Fatalf("%s: %v\n%s%s", command, err, out, shell.describe())
		}
	}
}

// found says whether there is a mesh that tests may change and remove: one of the images that they make. Any other is
// somebody's.
func (e *environment) found(t *testing.T) bool {
	t.Helper()
	const name = "heddle"
	d, err := e.client.AppsV1().Deployments("heddle-system").Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false
	}
	if err != nil {
		t.Fatalf("look whether the mesh is installed: %v", err)
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+testVersion) {
		t.Fatalf("there is a mesh of image %s in namespace heddle-system, which these tests would change and remove: give them another cluster", image)
	}
	return true
}

// testVersion is the tag of the images that tests make.
const testVersion = "test"

// noMesh takes away what mesh has installed, for a test that begins without.
func (e *environment) noMesh(t *testing.T) {
	t.Helper()
	shell := newShell(t, repository(t))
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	if !e.found(t) {
		return
	}
	if out, err := shell.run(t.Context(), removal); err != nil {
		t.Fatalf("%s: %v\n%s", removal, err, out)
	}
	e.installed.ours = false
}

const removal = "heddle uninstall | kubectl delete --ignore-not-found -f -"

// programs gives a folder with heddle and kubectl in it.
func (e *environment) programs(t *testing.T) string {
	t.Helper()
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	if e.installed.bin != "" {
		return e.installed.bin
	}
	heddle, err := images.Program(t.Context(), "cmd/heddle")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.MkdirTemp("", "heddle-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"heddle": heddle, "kubectl": e.kubectl} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	e.installed.bin = bin
	return bin
}

// leave removes what mesh and programs have made, except the mesh in a cluster that is removed anyway.
func (e *environment) leave() error {
	if e.installed.bin == "" {
		return nil
	}
	defer os.RemoveAll(e.installed.bin)
	if !e.installed.ours || os.Getenv("KUBECONFIG") == "" {
		return nil
	}
	shell := &shell{env: shellEnvironment(e.installed.bin)}
	if out, err := shell.run(context.Background(), removal); err != nil {
		return fmt.Errorf("%s: %w\n%s", removal, err, out)
	}
	return nil
}
