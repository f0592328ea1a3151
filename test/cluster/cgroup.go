package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups is a cluster's cgroup, in each hierarchy that the machine has: one, or one for each controller of version 1.
type cgroups struct {
	name  string
	roots []cgroupRoot
}

type cgroupRoot struct {
	path    string
	unified bool // version 2
}

func newCgroups(name string) (cgroups, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, fmt.Errorf("find the cgroups of this machine: %w", err)
	}
	defer file.Close()
	g := cgroups{name: name}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		_, source, ok := strings.Cut(lines.Text(), " - ")
		if !ok || len(fields) < 5 || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			continue
		}
		kind, _, _ := strings.Cut(source, " ")
		if kind == "cgroup" || kind == "cgroup2" {
			g.roots = append(g.roots, cgroupRoot{fields[4], kind == "cgroup2"})
		}
	}
	if len(g.roots) == 0 {
		return g, errors.New("no cgroups are mounted under /sys/fs/cgroup; the kubelet needs them")
	}
	return g, lines.Err()
}

// onlyUnified says that the machine has version 2 alone, as all current distributions do.
func (g cgroups) onlyUnified() bool { return len(g.roots) == 1 && g.roots[0].unified }

// create makes the cgroup, with the controllers that the kubelet wants to find in it.
func (g cgroups) create() error {
	for _, root := range g.roots {
		if g.onlyUnified() {
			if err := enableControllers(root.path); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Join(root.path, g.name), 0o755); err != nil {
			return fmt.Errorf("make the cgroup %s: %w", g.name, err)
		}
	}
	if g.onlyUnified() {
		if err := enableControllers(filepath.Join(g.roots[0].path, g.name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(g.daemons(), 0o755); err != nil {
		return fmt.Errorf("make the cgroup of the cluster's own processes: %w", err)
	}
	return nil
}

// enableControllers hands on to children what a cgroup has.
func enableControllers(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the controllers of cgroup %s: %w", dir, err)
	}
	for _, controller := range strings.Fields(string(have)) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("enable controller %s below cgroup %s: processes are in it; inside a container, give it a cgroup "+
				"namespace of the host (docker run --cgroupns=host)", controller, dir)
		}
		if err != nil && isWanted(controller) {
			return fmt.Errorf("enable controller %s below cgroup %s: %w", controller, dir, err)
		}
	}
	return nil
}

func isWanted(controller string) bool {
	return controller == "cpu" || controller == "cpuset" || controller == "memory" || controller == "pids"
}

// daemons is the cgroup, in one hierarchy, that keeps track of the cluster's own processes.
func (g cgroups) daemons() string {
	root := g.roots[0].path
	for _, r := range g.roots {
		if filepath.Base(r.path) == "pids" {
			root = r.path
		}
	}
	return filepath.Join(root, g.name, "daemons")
}

// kill ends every process in the cgroup and waits until none is left.
func (g cgroups) kill(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := g.members()
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			g.killMember(pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the processes %v of cgroup %s: %w", left, g.name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// members are the processes in the cgroup and below.
func (g cgroups) members() []int {
	var pids []int
	for _, dir := range g.folders() {
		list, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // it went meanwhile, or holds threads only
		}
		for _, word := range strings.Fields(string(list)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killMember ends a process, by a handle that cannot come to mean another one: the number may have been given anew
// between the list and the kill, so the cgroup is asked once more when the handle is there.
func (g cgroups) killMember(pid int) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer process.Release()
	of, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return // gone
	}
	for line := range strings.Lines(string(of)) {
		if _, path, _ := strings.Cut(strings.TrimSpace(line), ":/"); path == g.name || strings.HasPrefix(path, g.name+"/") {
			_ = process.Kill() // fails only if it has ended
			return
		}
	}
}

// folders are all of the cgroup's, parents first.
func (g cgroups) folders() []string {
	var dirs []string
	for _, root := range g.roots {
		_ = filepath.WalkDir(filepath.Join(root.path, g.name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what went meanwhile needs no attention
		})
	}
	return dirs
}

// remove removes the cgroup, which must hold no process.
func (g cgroups) remove() error {
	dirs := g.folders()
	var errs []error
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}
