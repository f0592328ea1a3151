package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// elsewhere are folders outside the cluster's own in which its programs write, whatever they are told: containerd keeps
// runc's state in the first, CNI its results in the second, the kubelet sockets and links in the others. In the cluster's
// mount namespace each is a folder of its own.
func elsewhere() []string {
	return []string{"/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers"}
}

// mountNamespace is a handle on the mount namespace in which all processes of the cluster run. The rest of the machine sees
// none of their mounts, and they end with the last process.
func (c *Cluster) mountNamespace() string { return filepath.Join(c.run, "mounts") }

// isolate makes the mount namespace. It must see the network namespace, which is a mount too.
func (c *Cluster) isolate(ctx context.Context) error {
	// The handle can only be kept on a mount that is not shared with other namespaces; see mount_namespaces(7).
	if err := run(ctx, "mount", "--bind", c.run, c.run); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := run(ctx, "mount", "--make-private", c.run); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := os.WriteFile(c.mountNamespace(), nil, 0o600); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	var script strings.Builder
	for _, dir := range elsewhere() {
		own := c.path("elsewhere", filepath.Base(dir))
		if err := errors.Join(os.MkdirAll(own, 0o755), os.MkdirAll(dir, 0o755)); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		fmt.Fprintf(&script, "mount --bind %s %s\n", own, dir)
	}
	// What the kubelet mounts must be seen by containers.
	script.WriteString("mount --make-rshared /\n")
	if err := run(ctx, "unshare", "--mount="+c.mountNamespace(), "--propagation", "private", "sh", "-ec", script.String()); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	return nil
}

// enter gives the command line that runs a program in the cluster's namespaces.
func (c *Cluster) enter(command ...string) []string {
	return append([]string{"nsenter", "--net=" + c.network.path(), "--mount=" + c.mountNamespace(), "--"}, command...)
}

// unmount takes away every mount in the cluster's folders, the last one first, and makes sure of it: what is removed next
// must be the cluster's own.
func (c *Cluster) unmount() error {
	mounts, err := c.mounts()
	if err != nil {
		return err
	}
	for _, path := range mounts {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	left, err := c.mounts()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("unmount %s: it is mounted again", left[0])
	}
	return err
}

// mounts are those in the cluster's folders, the last one first.
func (c *Cluster) mounts() ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	defer file.Close()
	var mounts []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if path := unescape(fields[4]); inside(path, c.dir) || inside(path, c.run) {
			mounts = append(mounts, path)
		}
	}
	slices.Reverse(mounts)
	return mounts, lines.Err()
}

// unescape undoes what the kernel does to spaces and the like in a path.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

func inside(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// removeFolders removes the cluster's folders, and those elsewhere that are empty: the cluster, or another one, has made
// them as a place to mount on.
func (c *Cluster) removeFolders() error {
	for _, dir := range elsewhere() {
		_ = os.Remove(dir) // fails if somebody uses it
	}
	if err := errors.Join(os.RemoveAll(c.run), os.RemoveAll(c.dir)); err != nil {
		return fmt.Errorf("remove the folders: %w", err)
	}
	return nil
}
