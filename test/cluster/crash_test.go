//go:build e2e

package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/test/images"
)

// crashing is the cluster of the test below; starter tells a copy of the test binary to start it and wait to be killed.
const (
	crashing = "crash"
	starter  = "HEDDLE_TEST_STARTS_A_CLUSTER"
)

func TestMain(m *testing.M) {
	if os.Getenv(starter) != "" {
		startAndWait()
	}
	os.Exit(m.Run())
}

func startAndWait() {
	c, err := startCrashing(context.Background(), os.Stderr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	out, err := c.Kubectl(context.Background(), "run", "pod", "--image="+images.Ubuntu, "--command", "--", "sleep", "604800").CombinedOutput()
	if err == nil {
		out, err = c.Kubectl(context.Background(), "wait", "pod/pod", "--for=condition=Ready", "--timeout=3m").CombinedOutput()
	}
	if err != nil {
		fmt.Printf("run a pod: %v: %s\n", err, out)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

func startCrashing(ctx context.Context, progress io.Writer) (*Cluster, error) {
	tars, err := images.Build(ctx, images.Options{Names: []string{images.Pause, images.Ubuntu}})
	if err != nil {
		return nil, err
	}
	return Start(ctx, Options{Name: crashing, Images: tars, Progress: progress})
}

func TestNothingIsLeftOfAClusterWhoseStarterWasKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), starter+"=1")
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(context.Background(), crashing); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the starter said %q, %v", line, err)
	}

	if _, err := startCrashing(t.Context(), os.Stderr); err == nil || !strings.Contains(err.Error(), "is in use by process") {
		t.Errorf("a second start beside a living one: got %v, want that it is in use", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	before := members(t)
	if len(before) < 10 {
		t.Fatalf("the killed starter has left the processes %v alone, so the rest of this test shows nothing", before)
	}

	c, err := startCrashing(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	now := members(t)
	for pid, start := range before {
		if now[pid] == start {
			t.Errorf("process %d of the dead cluster lives on", pid)
		}
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, rest := range rests(t) {
		t.Errorf("left behind: %s", rest)
	}
}

// members are the processes of the cluster, with their starts.
func members(t *testing.T) map[int]string {
	t.Helper()
	c, err := newCluster(crashing)
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, pid := range c.cgroups.members() {
		if start, _, err := startOf(pid); err == nil {
			found[pid] = start
		}
	}
	return found
}

// rests looks for whatever bears the cluster's name, by other ways than those by which it is removed.
func rests(t *testing.T) []string {
	t.Helper()
	const name = "heddle-" + crashing
	var found []string
	for _, pattern := range []string{
		"/var/lib/" + name, "/run/" + name, "/run/netns/" + name, "/sys/class/net/" + name,
		"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name,
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	// A process that is in the cluster's cgroup, or has a mount of it, or was started with one of its paths.
	for _, file := range []string{"cgroup", "mountinfo", "cmdline"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), name) {
				found = append(found, path)
			}
		}
	}
	return found
}
