//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/console"
	"github.com/heddle-mesh/heddle/test/images"
)

// TestTheFirstWalkGoesAsThePageSays types what docs/getting-started.md says, and wants to see what it shows.
func TestTheFirstWalkGoesAsThePageSays(t *testing.T) {
	env.used.Add(1)
	root := repository(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := console.Steps(string(page))
	if err != nil {
		t.Fatal(err)
	}
	env.noMesh(t)
	shell := newShell(t, root)
	t.Cleanup(shell.leaveNothing)
	for _, step := range steps {
		if ok := t.Run(fmt.Sprintf("line %d", step.Line), func(t *testing.T) { shell.do(t, step) }); !ok {
			t.Fatalf("the walk ends at line %d: %s\n%s", step.Line, step.Command, shell.describe())
		}
	}
}

// shell is the terminal of somebody who walks.
type shell struct {
	t    *testing.T
	root string // where commands are run
	env  []string
}

func newShell(t *testing.T, root string) *shell {
	t.Helper()
	return newShellOf(t, root, images.Version)
}

// newShellOf gives one with heddle as another version.
func newShellOf(t *testing.T, root, version string) *shell {
	t.Helper()
	return &shell{t, root, shellEnvironment(env.programs(t, version))}
}

// shellEnvironment is that of somebody with the programs of a folder and the tests' cluster.
func shellEnvironment(bin string) []string {
	return append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+env.kubeconfig, "NO_COLOR=1")
}

// do types a command. Of one whose output nobody describes, only success counts.
func (s *shell) do(t *testing.T, step console.Step) {
	t.Helper()
	start := time.Now()
	out, err := s.run(t.Context(), step.Command)
	t.Logf("$ %s\n%s(%v)", step.Command, out, time.Since(start).Round(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := step.Printed(out); err != nil {
		t.Fatal(err)
	}
}

func (s *shell) run(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", command)
	cmd.Dir, cmd.Env = s.root, s.env
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// describe says how the mesh and the applications are.
func (s *shell) describe() string {
	var all strings.Builder
	for _, command := range []string{
		"kubectl -n heddle-system get pods -o wide", "kubectl -n heddle-test get pods,events -o wide",
		"kubectl -n heddle-system logs deployment/heddle --tail 30", "kubectl -n heddle-system logs deployment/heddle-signer --tail 10",
		"kubectl -n heddle-test logs -l heddle.dev/sidecar=true --all-containers --prefix --tail 30",
	} {
		out, err := s.run(context.Background(), command)
		fmt.Fprintf(&all, "$ %s\n%s", command, out)
		if err != nil {
			fmt.Fprintln(&all, err)
		}
	}
	return all.String()
}

// leaveNothing removes what a walk that was broken off has left, for the tests after it.
func (s *shell) leaveNothing() {
	if !s.t.Failed() {
		return
	}
	for _, command := range []string{removal, "kubectl delete namespace heddle-test --ignore-not-found --wait=false"} {
		if out, err := s.run(context.Background(), command); err != nil {
			s.t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}

// repository is the folder of the whole.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
