package kubetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"github.com/heddle-mesh/heddle/filelock"
)

// Binaries are the programs of an API server.
type Binaries struct{ Etcd, APIServer string }

// InstallOptions say where programs go and who hears of it.
type InstallOptions struct {
	Progress io.Writer // lines about a build, which takes minutes; a live line on a terminal; default: silence
	Cache    string    // default: heddle in the user's cache directory
}

// Install gives the programs, and builds them first if they are not in the cache. Their versions are those of
// binaries/go.mod, their sources those whose checksums stand in binaries/go.sum. Of several processes that do this at
// once one builds and the others wait. Once built, no network is needed.
func Install(ctx context.Context, o InstallOptions) (Binaries, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	src, err := sources()
	if err != nil {
		return Binaries{}, err
	}
	if o.Cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return Binaries{}, fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
		}
		o.Cache = filepath.Join(user, "heddle")
	}
	dir := filepath.Join(o.Cache, "kubernetes", src.version+"-"+src.key)
	b := Binaries{Etcd: filepath.Join(dir, "etcd"), APIServer: filepath.Join(dir, "kube-apiserver")}
	if b.complete() {
		return b, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Binaries{}, fmt.Errorf("make the cache directory: %w", err)
	}
	unlock, err := filelock.Hold(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintln(o.Progress, "another process is building etcd and kube-apiserver; waiting for it")
	})
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if b.complete() {
		return b, nil
	}
	for _, p := range src.programs(b) {
		if err := p.build(ctx, src.dir, o.Progress); err != nil {
			return Binaries{}, err
		}
	}
	return b, nil
}

func (b Binaries) complete() bool {
	for _, path := range []string{b.Etcd, b.APIServer} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

// source is the module that pins what is built.
type source struct {
	dir     string
	version string // of Kubernetes
	key     string // of all that the binaries depend on
}

// sources finds binaries/go.mod, from whatever folder of the repository a test runs in.
func sources() (source, error) {
	root, err := os.Getwd()
	if err != nil {
		return source{}, fmt.Errorf("find the repository: %w", err)
	}
	for {
		dir := filepath.Join(root, "test", "kubernetes", "binaries")
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			return sourceOf(dir, mod)
		}
		if !errors.Is(err, os.ErrNotExist) || root == filepath.Dir(root) {
			return source{}, fmt.Errorf("find test/kubernetes/binaries/go.mod above the current folder: %w", err)
		}
		root = filepath.Dir(root)
	}
}

func sourceOf(dir string, mod []byte) (source, error) {
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return source{}, fmt.Errorf("read the checksums of what is built: %w", err)
	}
	version := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v1\.[0-9]+\.[0-9]+)`).FindSubmatch(mod)
	if version == nil {
		return source{}, fmt.Errorf("%s requires no k8s.io/kubernetes", filepath.Join(dir, "go.mod"))
	}
	h := sha256.New()
	for _, part := range []string{string(mod), string(sum), runtime.Version(), runtime.GOOS, runtime.GOARCH} {
		fmt.Fprintf(h, "%d %s", len(part), part)
	}
	return source{dir: dir, version: string(version[1]), key: fmt.Sprintf("%x", h.Sum(nil)[:6])}, nil
}

// program is one thing to build.
type program struct {
	name, pkg, path string
	ldflags         string
}

func (s source) programs(b Binaries) []program {
	// Without these the API server calls itself v0.0.0, and clients that look at its version refuse it.
	const version = "k8s.io/component-base/version."
	minor := strings.Split(s.version, ".")[1]
	return []program{
		{"etcd", "go.etcd.io/etcd/server/v3", b.Etcd, "-s -w"},
		{"kube-apiserver " + s.version, "k8s.io/kubernetes/cmd/kube-apiserver", b.APIServer, fmt.Sprintf(
			"-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s", version, s.version, minor)},
	}
}

func (p program) build(ctx context.Context, dir string, out io.Writer) error {
	total, err := p.packages(ctx, dir)
	if err != nil {
		return err
	}
	tmp := p.path + ".new"
	cmd := goCommand(ctx, dir, "build", "-v", "-o", tmp, "-ldflags", p.ldflags, p.pkg)
	report := newReport(out, p.name, total)
	cmd.Stderr = report
	err = cmd.Run()
	report.close()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", p.name, err, report.tail())
	}
	// Renaming is atomic: whoever looks meanwhile sees no program or a whole one.
	if err := os.Rename(tmp, p.path); err != nil {
		return fmt.Errorf("put %s into the cache: %w", p.name, err)
	}
	fmt.Fprintf(out, "built %s as %s\n", p.name, p.path)
	return nil
}

// packages counts what a program consists of, which also downloads it.
func (p program) packages(ctx context.Context, dir string) (int, error) {
	cmd := goCommand(ctx, dir, "list", "-deps", p.pkg)
	var said strings.Builder
	cmd.Stderr = &said
	list, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("download the sources of %s, which needs the Go module proxy once: %w\n%s", p.name, err, said.String())
	}
	return strings.Count(string(list), "\n"), nil
}

// goCommand runs the go tool in the module at dir, whatever the person's own settings for other modules are.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0", "PWD="+dir)
	// A build has children of its own, which an interrupt must reach.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return cmd
}
