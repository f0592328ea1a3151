package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// child is another process of this program, told what to do over its standard input and output.
type child struct {
	*rpc.Client
	cmd *exec.Cmd
}

// spawn starts this program again in the given role.
func spawn(role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.Command(self, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", role, err)
	}
	return &child{rpc.NewClient(pipe{out, in, in}), cmd}, nil
}

// stop closes the child's input, which ends it.
func (c *child) stop() error {
	if err := c.Close(); err != nil {
		return err
	}
	return c.cmd.Wait()
}

// obey serves what main tells this process, until main is gone.
func obey(name string, service any) error {
	s := rpc.NewServer()
	if err := s.RegisterName(name, service); err != nil {
		return err
	}
	s.ServeConn(pipe{os.Stdin, os.Stdout, os.Stdin})
	return nil
}

type pipe struct {
	io.Reader
	io.Writer
	io.Closer
}

// Usage is what a process has used so far.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes, now
}

func usage() (Usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return Usage{}, fmt.Errorf("getrusage: %w", err)
	}
	rss, err := residentSize()
	return Usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), RSS: rss}, err
}

func residentSize() (int64, error) {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if f := bytes.Fields(lines.Bytes()); len(f) == 3 && string(f[0]) == "Rss:" {
			kb, err := strconv.ParseInt(string(f[1]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Rss in /proc/self/smaps_rollup")
}
