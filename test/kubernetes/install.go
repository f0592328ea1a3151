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
	"slices"
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

// Install gives the programs of an API server, and builds them first if they are not in the cache. Their versions are
// those of binaries/go.mod, their sources those whose checksums stand in binaries/go.sum. Of several processes that do this
// at once one builds and the others wait. Once built, no network is needed.
func Install(ctx context.Context, o InstallOptions) (Binaries, error) {
	m, err := kubernetesModule(o)
	if err != nil {
		return Binaries{}, err
	}
	programs := m.kubernetes("kube-apiserver")
	if err := m.install(ctx, o, append(programs, m.etcd())); err != nil {
		return Binaries{}, err
	}
	return Binaries{Etcd: m.path("etcd"), APIServer: m.path("kube-apiserver")}, nil
}

// Programs are those of a whole cluster, by their usual names.
type Programs struct{ folders []string }

// InstallAll gives the programs of a whole cluster, kubectl and ctr among them, and builds them first as [Install] does.
func InstallAll(ctx context.Context, o InstallOptions) (Programs, error) {
	k, err := kubernetesModule(o)
	if err != nil {
		return Programs{}, err
	}
	containerd, err := findModule(o, "containerd", "github.com/containerd/containerd/v2")
	if err != nil {
		return Programs{}, err
	}
	coredns, err := findModule(o, "coredns", "github.com/coredns/coredns")
	if err != nil {
		return Programs{}, err
	}
	programs := k.kubernetes("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
	if err := k.install(ctx, o, append(programs, k.etcd())); err != nil {
		return Programs{}, err
	}
	const cmd = "github.com/containerd/containerd/v2/cmd/"
	stamp := "-s -w -X github.com/containerd/containerd/v2/version.Version=" + containerd.version
	if err := containerd.install(ctx, o, []program{
		{"containerd", cmd + "containerd", stamp},
		{"containerd-shim-runc-v2", cmd + "containerd-shim-runc-v2", stamp},
		{"ctr", cmd + "ctr", stamp},
	}); err != nil {
		return Programs{}, err
	}
	if err := coredns.install(ctx, o, []program{{"coredns", ".", "-s -w"}}); err != nil {
		return Programs{}, err
	}
	return Programs{[]string{k.cache, containerd.cache, coredns.cache}}, nil
}

// Path is where a program is.
func (p Programs) Path(name string) string {
	for _, dir := range p.folders {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return name // to be looked for in PATH, and missed there by this name
}

// SearchPath is a PATH with the programs first and the machine's own after.
func (p Programs) SearchPath() string {
	return strings.Join(append(slices.Clone(p.folders), os.Getenv("PATH")), string(filepath.ListSeparator))
}

// module pins what is built, and has a folder in the cache for it.
type module struct {
	dir     string // of its go.mod
	cache   string
	version string // of what it is for
}

func kubernetesModule(o InstallOptions) (module, error) {
	m, err := findModule(o, "binaries", "k8s.io/kubernetes")
	if err == nil && strings.Count(m.version, ".") != 2 {
		err = fmt.Errorf("%s requires k8s.io/kubernetes %s, which is no release", m.dir, m.version)
	}
	return m, err
}

// findModule finds a folder of test/kubernetes, from whatever folder of the repository a test runs in.
func findModule(o InstallOptions, folder, of string) (module, error) {
	root, err := os.Getwd()
	if err != nil {
		return module{}, fmt.Errorf("find the repository: %w", err)
	}
	for {
		dir := filepath.Join(root, "test", "kubernetes", folder)
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			return newModule(o, dir, mod, of)
		}
		if !errors.Is(err, os.ErrNotExist) || root == filepath.Dir(root) {
			return module{}, fmt.Errorf("find test/kubernetes/%s/go.mod above the current folder: %w", folder, err)
		}
		root = filepath.Dir(root)
	}
}

func newModule(o InstallOptions, dir string, mod []byte, of string) (module, error) {
	if o.Cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return module{}, fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
		}
		o.Cache = filepath.Join(user, "heddle")
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return module{}, fmt.Errorf("read the checksums of what is built: %w", err)
	}
	version := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(of) + ` (v[0-9.]+)`).FindSubmatch(mod)
	if version == nil {
		return module{}, fmt.Errorf("%s requires no %s", filepath.Join(dir, "go.mod"), of)
	}
	h := sha256.New()
	// What is built is named in this package; the module's own source is a few lines and counts too.
	main, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return module{}, fmt.Errorf("read what is built: %w", err)
	}
	for _, part := range []string{string(mod), string(sum), string(main), runtime.Version(), runtime.GOOS, runtime.GOARCH} {
		fmt.Fprintf(h, "%d %s", len(part), part)
	}
	key := fmt.Sprintf("%s-%x", version[1], h.Sum(nil)[:6])
	name := filepath.Base(of)
	if name == "v2" {
		name = filepath.Base(filepath.Dir(of))
	}
	return module{dir: dir, version: string(version[1]), cache: filepath.Join(o.Cache, name, key)}, nil
}

func (m module) path(name string) string { return filepath.Join(m.cache, name) }

// install builds what is not in the cache.
func (m module) install(ctx context.Context, o InstallOptions, programs []program) error {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	missing := func(p program) bool {
		_, err := os.Stat(m.path(p.name))
		return err != nil
	}
	if !slices.ContainsFunc(programs, missing) {
		return nil
	}
	if err := os.MkdirAll(m.cache, 0o755); err != nil {
		return fmt.Errorf("make the cache directory: %w", err)
	}
	unlock, err := filelock.Hold(ctx, filepath.Join(m.cache, "lock"), func() {
		fmt.Fprintln(o.Progress, "another process is building programs of", m.cache+"; waiting for it")
	})
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range programs {
		if missing(p) {
			if err := p.build(ctx, m, o.Progress); err != nil {
				return err
			}
		}
	}
	return nil
}

// program is one thing to build.
type program struct{ name, pkg, ldflags string }

func (m module) etcd() program { return program{"etcd", "go.etcd.io/etcd/server/v3", "-s -w"} }

func (m module) kubernetes(names ...string) []program {
	// Without these a program calls itself v0.0.0, and clients that look at the version of a server refuse it.
	const version = "k8s.io/component-base/version."
	minor := strings.Split(m.version, ".")[1]
	stamp := fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s", version, m.version, minor)
	var programs []program
	for _, name := range names {
		programs = append(programs, program{name, "k8s.io/kubernetes/cmd/" + name, stamp})
	}
	return programs
}

func (p program) build(ctx context.Context, m module, out io.Writer) error {
	total, err := p.packages(ctx, m.dir)
	if err != nil {
		return err
	}
	path := m.path(p.name)
	tmp := path + ".new"
	cmd := goCommand(ctx, m.dir, "build", "-v", "-o", tmp, "-ldflags", p.ldflags, p.pkg)
	report := newReport(out, p.name+" "+m.version, total)
	cmd.Stderr = report
	err = cmd.Run()
	report.close()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", p.name, err, report.tail())
	}
	// Renaming is atomic: whoever looks meanwhile sees no program or a whole one.
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put %s into the cache: %w", p.name, err)
	}
	fmt.Fprintf(out, "built %s as %s\n", p.name, path)
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
