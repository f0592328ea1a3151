package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// daemon is a process of the cluster. It outlives us, and is ended by its cgroup.
type daemon struct {
	name string
	log  string        // path
	done chan struct{} // closed when it ended, while we live
}

// spawn starts a program in the cluster's cgroup and namespaces, with its output in a log file.
func (c *Cluster) spawn(name string, args ...string) (*daemon, error) {
	d := &daemon{name: name, log: filepath.Join(c.dir, "log", name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer log.Close()
	// A process joins the cgroup before it becomes the program, so no child of the program is ever outside.
	const join = `echo $$ >"$0/cgroup.procs" && exec "$@"`
	command := append([]string{c.programs.Path(name)}, args...)
	cmd := exec.Command("sh", append([]string{"-c", join, c.cgroups.daemons()}, c.enter(command...)...)...)
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"HOME=" + c.dir, "PATH=" + c.programs.SearchPath(), "TMPDIR=" + filepath.Join(c.dir, "tmp")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // its log says why it ended
		close(d.done)
	}()
	c.daemons = append(c.daemons, d)
	return d, nil
}

// ended gives an error if a process of the cluster has ended.
func (c *Cluster) ended() error {
	for _, d := range c.daemons {
		select {
		case <-d.done:
			return fmt.Errorf("%s ended; its log ends:\n%s", d.name, tail(d.log))
		default:
		}
	}
	return nil
}

// tail is the end of a log.
func tail(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}
