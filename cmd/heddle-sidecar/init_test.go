package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heddle-mesh/heddle/test/transcript"
)

func TestInitPrintsTheRulesThatItWouldInstall(t *testing.T) {
	var out, errs transcript.Buffer
	if code := run([]string{"init", "--print", "--skip-outbound-cidrs", "10.9.0.0/16", "--skip-inbound-ports=8000-8010"}, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	for _, want := range []string{"table inet heddle {", "ip daddr 10.9.0.0/16 return", "tcp dport 8000-8010 return"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestInitRefusesWhatItDoesNotUnderstandAndSaysWhat(t *testing.T) {
	for args, want := range map[string]string{
		"--skip-inbound-ports http": `--skip-inbound-ports: "http"`,
		"--skip-outbound-cidrs x/8": `--skip-outbound-cidrs: "x/8"`,
		"--backend pf":              `backend "pf": want auto, nftables or iptables`,
		"--skip":                    "heddle-sidecar init --help",
		"now":                       `"now" is not understood`,
		"--await 127.0.0.1":         `--await: "127.0.0.1": want host:port`,
		"--await 127.0.0.1:15021":   "without HEDDLE_PROBE_PREFIX the agent does not answer",
	} {
		var out, errs transcript.Buffer
		if code := run(append([]string{"init"}, strings.Fields(args)...), &out, &errs); code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("init %s: exit code %d, %q; want 1 and %q", args, code, errs.String(), want)
		}
	}
}

// TestInitWithoutNetAdminNamesWhatIsMissing runs the program as nobody, who has no capabilities.
func TestInitWithoutNetAdminNamesWhatIsMissing(t *testing.T) {
	file := must(os.Open(program(t)))
	defer file.Close()
	cmd := exec.Command("/proc/self/fd/3", "init") // nobody may not enter the directory that it is in
	cmd.ExtraFiles, cmd.Dir = []*os.File{file}, "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "CAP_NET_ADMIN") || !strings.Contains(string(out), "capabilities.add: [NET_ADMIN]") {
		t.Errorf("%v: %s\nwant exit code 1, and what is missing", err, out)
	}
}

func TestWhatInjectionSetsIsReadOrRefused(t *testing.T) {
	args := []string{"--namespace", "shop", "--service-account", "web", "--pod", "web-1", "--signer", "h:1", "--control-plane", "h:2",
		"--bundle", "b", "--token-file", "t", "--no-envoy", "--ready", "127.0.0.1:0", "--dir", filepath.Join(t.TempDir(), "d")}
	for variables, want := range map[[2]string]string{
		{"HEDDLE_PROBES", "{"}:           "HEDDLE_PROBES: read the pod's probes",
		{"HEDDLE_PROBE_PREFIX", "easy"}:  "prefix of the kubelet's paths: want at least 16",
		{"HEDDLE_PROBE_PREFIX", "a/b/c"}: "prefix of the kubelet's paths: want at least 16",
	} {
		t.Run(variables[0]+"="+variables[1], func(t *testing.T) {
			t.Setenv(variables[0], variables[1])
			var out, errs transcript.Buffer
			if code := run(args, &out, &errs); code != 1 || !strings.Contains(errs.String(), want) {
				t.Errorf("exit code %d, %q; want 1 and %q", code, errs.String(), want)
			}
		})
	}
}
