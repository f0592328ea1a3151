package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// coreLimit is the limit of core files of a process, soft and hard, as Linux prints them.
func coreLimit(t *testing.T, pid int) string {
	t.Helper()
	const name = "Max core file size"
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))))) {
		if rest, found := strings.CutPrefix(line, name); found {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	t.Fatalf("/proc/%d/limits has no line %q", pid, name)
	return ""
}

func TestNeitherTheAgentNorEnvoyLeavesACoreDump(t *testing.T) {
	dir := t.TempDir()
	// As it is where cores are wanted; a core would be left in the working directory, or go to whom core_pattern names.
	raised := filepath.Join(dir, "raised")
	script := fmt.Sprintf("#!/bin/sh\nulimit -c \"$(ulimit -H -c)\"\ncd %s\nexport GOTRACEBACK=crash\nexec %s \"$@\"\n", dir, program(t))
	if err := os.WriteFile(raised, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if said := string(must(exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c "$(ulimit -H -c)"; ulimit -c`).Output())); strings.TrimSpace(said) == "0" {
		t.Fatal("the hard limit of core files is 0, so a core could not be left anyway: raise it (ulimit -H -c) to run this test")
	}
	p := startMesh(t).start(t, raised, "--envoy", binary(t))
	p.awaitReady(t)
	for who, pid := range map[string]int{"the agent": p.Process.Pid, "Envoy": p.envoy(t)} {
		if got := coreLimit(t, pid); got != "1 1 bytes" {
			t.Errorf("the limit of %s is %q, want that of no dump whatever the core_pattern, 1", who, got)
		}
	}
	if err := p.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	err := p.Wait()
	ended, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || ended.Signal() != syscall.SIGABRT {
		t.Fatalf("it ended with %v, want SIGABRT, which leaves a core where there may be one", err)
	}
	if ended.CoreDump() {
		t.Error("Linux says that it dumped a core")
	}
	if left := must(filepath.Glob(filepath.Join(dir, "core*"))); len(left) > 0 {
		t.Errorf("a core file is left: %v", left)
	}
}
