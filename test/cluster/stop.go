package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// stopLimit is ample for the kernel to end processes.
const stopLimit = time.Minute

// Stop ends every process of the cluster and removes everything that it owns. It can be called again, and for a cluster
// that was never whole.
func (c *Cluster) Stop(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.remove(ctx)
}

// remove is Stop for who holds the lock.
func (c *Cluster) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopLimit, fmt.Errorf("not within %v", stopLimit))
	defer cancel()
	// Processes hold mounts, mounts hold folders and namespaces: so in this order, and no further if one fails.
	for _, step := range []func(context.Context) error{
		c.cgroups.kill,
		func(context.Context) error { return c.unmount() },
		c.network.remove,
		func(context.Context) error { return c.cgroups.remove() },
		func(context.Context) error { return c.removeFolders() },
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("stop cluster %s: %w", c.Name, err)
		}
	}
	return nil
}

// claimed is who started a cluster. A process is known by its number and its start, in ticks since the machine's.
type claimed struct {
	Owner Owner  `json:"owner"`
	PID   int    `json:"pid"`
	Start string `json:"start"`
	Boot  string `json:"boot"`
}

// claim writes down whose cluster it is.
func (c *Cluster) claim(owner Owner) error {
	for _, dir := range []string{c.dir, c.run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the folders of cluster %s: %w", c.Name, err)
		}
	}
	start, boot, err := startOf(os.Getpid())
	if err != nil {
		return err
	}
	content, err := json.Marshal(claimed{owner, os.Getpid(), start, boot})
	if err != nil {
		return fmt.Errorf("encode the owner of cluster %s: %w", c.Name, err)
	}
	if err := os.WriteFile(c.path("owner.json"), content, 0o644); err != nil {
		return fmt.Errorf("write down the owner of cluster %s: %w", c.Name, err)
	}
	return nil
}

// removeDead removes what is left of a cluster whose owner is gone. One that is in use is an error.
func (c *Cluster) removeDead(ctx context.Context) error {
	content, err := os.ReadFile(c.path("owner.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return c.remove(ctx) // there may be rests all the same, if it was interrupted while it stopped
	}
	if err != nil {
		return fmt.Errorf("read the owner of cluster %s: %w", c.Name, err)
	}
	var was claimed
	if err := json.Unmarshal(content, &was); err != nil {
		return fmt.Errorf("read %s: %w; make cluster-down NAME=%s removes the cluster", c.path("owner.json"), err, c.Name)
	}
	start, boot, err := startOf(was.PID)
	alive := err == nil && start == was.Start && boot == was.Boot
	if was.Owner == Nobody && boot == was.Boot && len(c.cgroups.members()) > 0 {
		return fmt.Errorf("cluster %s is running: use it with KUBECONFIG=%s, or end it with make cluster-down NAME=%s",
			c.Name, c.Kubeconfig(), c.Name)
	}
	if alive && was.PID != os.Getpid() {
		return fmt.Errorf("cluster %s is in use by process %d; wait for it, or choose another name", c.Name, was.PID)
	}
	c.say("removing what process %d left of cluster %s", was.PID, c.Name)
	return c.remove(ctx)
}

// startOf is when a process started, and which boot of the machine it is in.
func startOf(pid int) (start, boot string, err error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", fmt.Errorf("tell this boot of the machine from others: %w", err)
	}
	boot = strings.TrimSpace(string(id))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", boot, fmt.Errorf("look for process %d: %w", pid, err)
	}
	// The second field is a name that may hold anything, in brackets; the start is the twenty-second.
	_, after, _ := strings.Cut(string(stat[strings.LastIndex(string(stat), ")"):]), " ")
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return "", boot, fmt.Errorf("read /proc/%d/stat: it has %d fields after the name", pid, len(fields))
	}
	return fields[19], boot, nil
}
