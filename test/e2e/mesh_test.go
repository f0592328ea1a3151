//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	made map[string]bool // folders with heddle and kubectl in them, by heddle's version
	ours bool            // the tests have installed it into a cluster that stays
}

// mesh sees to it that Heddle is installed and works. It stays for the tests to come. A test that runs in parallel says so
// before it asks: until then the walk, which does not, may take the mesh away.
func (e *environment) mesh(t *testing.T) {
	t.Helper()
	e.used.Add(1)
	e.install(t)
}

// install installs Heddle if it is not there, with flags of heddle install, and waits until it works.
func (e *environment) install(t *testing.T, flags ...string) {
	t.Helper()
	shell := newShell(t, repository(t))
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	if e.found(t) {
		return
	}
	e.installed.ours = true
	for _, command := range []string{
		"heddle install --version " + testVersion + " " + strings.Join(flags, " ") + " | kubectl apply -f -",
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
	// It may be the end of the test.
	d, err := e.client.AppsV1().Deployments("heddle-system").Get(context.WithoutCancel(t.Context()), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false
	}
	if err != nil {
		t.Fatalf("look whether the mesh is installed: %v", err)
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; !slices.Contains([]string{images.Heddle, images.HeddleNext}, image) {
		t.Fatalf("there is a mesh of image %s in namespace heddle-system, which these tests would change and remove: give them another cluster", image)
	}
	return true
}

// testVersion is the tag of the images that tests make.
const testVersion = "test"

// noMesh takes away what mesh has installed, for a test that begins without.
func (e *environment) noMesh(t *testing.T) {
	t.Helper()
	e.remove(t, removal)
}

// purge takes away the CA as well, so that whatever is installed next begins anew.
func (e *environment) purge(t *testing.T) {
	t.Helper()
	e.remove(t, "heddle uninstall --purge | kubectl delete --ignore-not-found -f -")
}

func (e *environment) remove(t *testing.T, removal string) {
	t.Helper()
	shell := newShell(t, repository(t))
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	if !e.found(t) {
		return
	}
	if out, err := shell.run(context.WithoutCancel(t.Context()), removal); err != nil {
		t.Fatalf("%s: %v\n%s", removal, err, out)
	}
	e.installed.ours = false
}

const removal = "heddle uninstall | kubectl delete --ignore-not-found -f -"

// programs gives a folder with kubectl in it, and heddle as it is in the images of a version. It is in the repository's bin,
// so that a run that is broken off leaves nothing elsewhere.
func (e *environment) programs(t *testing.T, version string) string {
	t.Helper()
	e.installed.mu.Lock()
	defer e.installed.mu.Unlock()
	bin := filepath.Join(repository(t), "bin", "e2e", version)
	if e.installed.made[version] {
		return bin
	}
	heddle, err := images.Program(t.Context(), "cmd/heddle", version)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"heddle": heddle, "kubectl": e.kubectl} {
		link := filepath.Join(bin, name)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
	}
	if e.installed.made == nil {
		e.installed.made = map[string]bool{}
	}
	e.installed.made[version] = true
	return bin
}

// leave removes the mesh that tests have installed into a cluster that stays.
func (e *environment) leave() error {
	if !e.installed.ours || os.Getenv("KUBECONFIG") == "" {
		return nil
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	shell := &shell{env: shellEnvironment(filepath.Join(root, "bin", "e2e", images.Version))}
	if out, err := shell.run(context.Background(), removal); err != nil {
		return fmt.Errorf("%s: %w\n%s", removal, err, out)
	}
	return nil
}
