package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/heddle-mesh/heddle/filelock"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

// Node is the name of the one node.
const Node = "heddle-node"

// Options say which cluster, and what is in it from the start.
type Options struct {
	Name     string    // one to eight lower-case letters and digits; default: dev
	Images   []string  // tar files to load; one of them must hold PauseImage
	Progress io.Writer // lines about what takes long; default: silence
	Owner    Owner     // default: ThisProcess
}

// Owner says how long a cluster is to live.
type Owner string

// Owners.
const (
	ThisProcess Owner = ""       // a start of the same name ends the cluster if the process that started it is gone
	Nobody      Owner = "nobody" // it stays until Remove
)

// PauseImage is what holds the namespaces of a pod.
const PauseImage = "docker.io/library/heddle-pause:test"

// Cluster is a running Kubernetes.
type Cluster struct {
	Name string

	dir, run string
	programs kubetest.Programs
	network  network
	cgroups  cgroups
	daemons  []*daemon
	progress io.Writer
}

// newCluster gives a cluster that does nothing yet.
func newCluster(name string) (*Cluster, error) {
	if name == "" {
		name = "dev"
	}
	// An interface's name has at most 15 characters.
	if !regexp.MustCompile(`^[a-z0-9]{1,8}$`).MatchString(name) {
		return nil, fmt.Errorf("the name of a cluster is one to eight lower-case letters and digits, not %q", name)
	}
	full := "heddle-" + name
	groups, err := newCgroups(full)
	if err != nil {
		return nil, err
	}
	return &Cluster{
		Name: name, dir: "/var/lib/" + full, run: "/run/" + full,
		network: network{name: full}, cgroups: groups, progress: io.Discard,
	}, nil
}

// Start gives a cluster that is ready: its node is, its DNS answers, and its images are loaded. It builds the programs that
// it needs if they are not in the cache. What a dead process left of a cluster of this name is removed first; one that is
// alive is an error.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := CheckHost(); err != nil {
		return nil, err
	}
	c, err := newCluster(o.Name)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		c.progress = o.Progress
	}
	if c.programs, err = kubetest.InstallAll(ctx, kubetest.InstallOptions{Progress: o.Progress}); err != nil {
		return nil, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.removeDead(ctx); err != nil {
		return nil, err
	}
	if err := c.claim(o.Owner); err != nil {
		return nil, err
	}
	if err := c.start(ctx, o.Images); err != nil {
		c.say("%s", c.diagnosis())
		// Not ctx: what is half there must go, all the more if time is up.
		return nil, errors.Join(fmt.Errorf("start cluster %s: %w", c.Name, err), c.remove(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// lock lets one process at a time start or stop a cluster of this name.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
	}
	dir := filepath.Join(user, "heddle", "clusters")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache directory: %w", err)
	}
	return filelock.Hold(ctx, filepath.Join(dir, c.Name+".lock"), func() {
		c.say("another process is starting or stopping cluster %s; waiting for it", c.Name)
	})
}

// Find gives a cluster that another process has started.
func Find(ctx context.Context, name string) (*Cluster, error) {
	c, err := newCluster(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		return nil, fmt.Errorf("there is no cluster %s on this machine: %w", c.Name, err)
	}
	c.programs, err = kubetest.InstallAll(ctx, kubetest.InstallOptions{})
	return c, err
}

// Remove ends a cluster, whoever started it and whatever is left of it.
func Remove(ctx context.Context, name string) error {
	c, err := newCluster(name)
	if err != nil {
		return err
	}
	return c.Stop(ctx)
}

// Kubeconfig is the path of an administrator's kubeconfig, good inside the cluster's network and on the machine.
func (c *Cluster) Kubeconfig() string { return c.path("pki", "admin.kubeconfig") }

// Kubectl gives a kubectl command that acts as administrator.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.programs.Path("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return cmd
}

// KubectlPath is where the kubectl is that belongs to the cluster's version.
func (c *Cluster) KubectlPath() string { return c.programs.Path("kubectl") }

// Load puts images into the cluster, from tar files of the form that `docker save` writes, or of an OCI layout.
func (c *Cluster) Load(ctx context.Context, tars ...string) error {
	for _, tar := range tars {
		if err := run(ctx, c.ctr("images", "import", "--local", "--discard-unpacked-layers", tar)...); err != nil {
			return fmt.Errorf("load the image %s: %w", tar, err)
		}
	}
	return nil
}

func (c *Cluster) ctr(args ...string) []string {
	return append([]string{c.programs.Path("ctr"), "--address", c.run + "/containerd.sock", "--namespace", "k8s.io"}, args...)
}

// path is that of a file in the cluster's folder.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// say tells whoever waits what is going on.
func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.progress, format+"\n", args...) }

// until tries something until it succeeds, or a process of the cluster has ended, or time is up.
func (c *Cluster) until(ctx context.Context, what string, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		last := try(ctx)
		if last == nil {
			return nil
		}
		if err := c.ended(); err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w: %w", what, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
