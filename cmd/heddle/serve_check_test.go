package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatServeCannotDoItRefusesBeforeItMakesAnything(t *testing.T) {
	for want, flags := range map[string][]string{
		"heddle: --certificate-lifetime 240h0m0s: choose between 1s and 168h0m0s\n": {"--certificate-lifetime", "240h"},
		"heddle: --certificate-lifetime 1ms: choose between 1s and 168h0m0s\n":      {"--certificate-lifetime", "1ms"},
		"heddle: --certificate-lifetime 0s: choose between 1s and 168h0m0s\n":       {"--certificate-lifetime", "0"},
		"heddle: --signer 0.0.0.0:0: with --manifests it hands join tokens":         {"--signer", "0.0.0.0:0"},
		"heddle: --signer :0: with --manifests it hands join tokens":                {"--signer", ":0"},
		"heddle: --signer 127.0.0.1:none: ":                                         {"--signer", "127.0.0.1:none"},
	} {
		dir := t.TempDir()
		manifests := filepath.Join(dir, "mesh")
		if err := os.Mkdir(manifests, 0o700); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := typed(append([]string{
			"serve", "--manifests", manifests, "--state", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "own", "s"), "--listen", "",
			"--sidecars", "127.0.0.1:0",
		}, flags...)...)
		if code != 1 || !strings.HasPrefix(stderr, want) {
			t.Errorf("%q: exit status %d, %s; want %s", flags, code, stderr, want)
		}
		if made := mustList(t, dir); len(made) != 1 {
			t.Errorf("%q: it made %q", flags, made)
		}
	}
	// Without a cluster this one goes no further than the kubeconfig.
	code, _, stderr := typed("serve", "--role", "signer", "--kubeconfig", "/none", "--socket", filepath.Join(t.TempDir(), "own", "s"), "--certificate-lifetime", "169h")
	if code != 1 || !strings.Contains(stderr, "choose between") {
		t.Errorf("a signer in a cluster: exit status %d, %s", code, stderr)
	}
}

func mustList(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
