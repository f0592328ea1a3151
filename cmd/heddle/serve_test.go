package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheStateOfAFolderIsInTheUsersStateFolderUnderItsOwnName(t *testing.T) {
	state := func(xdg, manifests string) string {
		t.Helper()
		t.Setenv("XDG_STATE_HOME", xdg)
		path, err := defaultState(manifests)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("HOME", "/home/somebody")
	one := state("", "/srv/one/mesh")
	if !strings.HasPrefix(one, "/home/somebody/.local/state/heddle/mesh-") {
		t.Errorf("without XDG_STATE_HOME it is %s", one)
	}
	if got := state("relative", "/srv/one/mesh/"); got != one {
		t.Errorf("with a relative XDG_STATE_HOME it is %s", got)
	}
	if got := state("/var/state", "/srv/one/mesh"); got != "/var/state/heddle/"+filepath.Base(one) {
		t.Errorf("with XDG_STATE_HOME it is %s", got)
	}
	if other := state("", "/srv/two/mesh"); other == one {
		t.Errorf("two folders share %s", other)
	}
	t.Chdir("/")
	if got := state("", "srv/one/mesh"); got != one {
		t.Errorf("by a relative path it is %s", got)
	}
	t.Setenv("HOME", "")
	f := serveFlags{manifests: "x"}
	if _, err := f.stateFolder(); err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("without a home: %v", err)
	}
	f.state = t.TempDir()
	if got, err := f.stateFolder(); err != nil || got != f.state {
		t.Errorf("without a home, with --state: %s, %v", got, err)
	}
}

func TestFlagsOfServeThatDoNotGoTogetherAreRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"--role signer is for a cluster; with --manifests one process does all": {"serve", "--role", "signer", "--manifests", t.TempDir()},
		"--role server is for a cluster; with --manifests one process does all": {"serve", "--role", "server", "--manifests", t.TempDir()},
		"server, signer": {"serve", "--role", "both"},
		"give them to the process with --role signer": {"serve", "--role", "server", "--ca-chain", "ca.pem", "--ca-key", "ca.key"},
		"--ca-chain and --ca-key belong together":     {"serve", "--manifests", t.TempDir(), "--ca-anchors", "root.pem"},
	} {
		c := rootCommand()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", args, err, want)
		}
	}
}
