package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/heddle-mesh/heddle/sidecar/envoy"
)

// Names of the images, in full, as pods give them: the two that Heddle ships are where the chart looks for them. A tag that is not latest is never pulled if it is there.
const (
	Pause   = "docker.io/library/heddle-pause:test"
	Heddle  = "ghcr.io/heddle-mesh/heddle:test"
	Proxy   = "ghcr.io/heddle-mesh/heddle-proxy:test"
	TestApp = "docker.io/library/heddle-testapp:test"
	Ubuntu  = "docker.io/library/ubuntu:test"
	Redis   = "docker.io/library/redis:test"

	// The same source as another version, for upgrades to.
	HeddleNext = "ghcr.io/heddle-mesh/heddle:next"
	ProxyNext  = "ghcr.io/heddle-mesh/heddle-proxy:next"
)

// All gives the names of all images.
func All() []string {
	return []string{Pause, Heddle, Proxy, TestApp, Ubuntu, Redis, HeddleNext, ProxyNext}
}

// Full gives an image's name by the last part of it, heddle-proxy or heddle-proxy:next; without a tag it is that of most,
// test. What is no image's is given back as it is.
func Full(short string) string {
	last := short
	if !strings.Contains(last, ":") {
		last += ":test"
	}
	for _, name := range All() {
		if strings.HasSuffix(name, "/"+last) {
			return name
		}
	}
	return short
}

// ProxyUser is the one that traffic of the sidecar is known by.
const ProxyUser = "1337:1337"

const (
	heddleUser = "65532:65532"
	envoyPath  = "/usr/local/bin/envoy"
)

// What programs in the images say that they are: in those that are tagged test, and in those that are tagged next.
const (
	Version     = "v0.0.0-test"
	NextVersion = "v0.0.1-test"
)

// Options say which images are made, and where.
type Options struct {
	Names    []string  // of the images above; default: all
	Cache    string    // default: heddle/images in the user's cache directory
	Progress io.Writer // lines about what takes long; default: silence
}

// Build makes images from this repository's source, and gives the paths of their tar files.
func Build(ctx context.Context, o Options) ([]string, error) {
	b, err := newBuilder(o)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, name := range b.names {
		image, err := b.image(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("make the image %s: %w", name, err)
		}
		path, err := Write(b.cache, image)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// Program compiles a program of this repository as it is in the images of a version, and gives its path. The package is
// given as in cmd/heddle.
func Program(ctx context.Context, pkg, version string) (string, error) {
	b, err := newBuilder(Options{})
	if err != nil {
		return "", err
	}
	return b.compile(ctx, pkg, version)
}

type builder struct {
	names    []string
	root     string // of the repository
	cache    string
	progress io.Writer
}

func newBuilder(o Options) (*builder, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	b := &builder{names: o.Names, root: root, cache: o.Cache, progress: o.Progress}
	if len(b.names) == 0 {
		b.names = All()
	}
	if b.progress == nil {
		b.progress = io.Discard
	}
	if b.cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
		}
		b.cache = filepath.Join(user, "heddle", "images")
	}
	return b, nil
}

// repository is the folder of this module, above the current one.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/heddle-mesh/heddle\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the repository: run this in a folder of it")
		}
		dir = filepath.Dir(dir)
	}
}

func (b *builder) image(ctx context.Context, name string) (Image, error) {
	switch name {
	case Pause:
		return b.static(ctx, name, "test/testapp/pause")
	case Heddle, HeddleNext:
		image, err := b.static(ctx, name, "cmd/heddle")
		image.User = heddleUser
		return image, err
	case TestApp:
		image, err := b.static(ctx, name, "test/testapp")
		if err != nil {
			return image, err
		}
		// An application with an identity of its own is run by its command, /spiffe-app.
		program, err := b.compile(ctx, "examples/spiffe-app", Version)
		image.Layers = append(image.Layers, Layer{{Path: "/spiffe-app", Source: program}})
		return image, err
	case Proxy, ProxyNext:
		return b.proxy(ctx, name)
	case Ubuntu:
		return b.debian(ctx, name, "bash", "coreutils", "grep", "sed", "procps", "curl", "iproute2")
	case Redis:
		image, err := b.debian(ctx, name, "bash", "coreutils", "redis-server", "redis-tools")
		image.Entrypoint = []string{"redis-server", "--protected-mode", "no", "--dir", "/tmp", "--save", ""}
		return image, err
	}
	return Image{}, errors.New("nobody says how; see test/images/build.go")
}

// static gives an image of one program without libraries.
func (b *builder) static(ctx context.Context, name, pkg string) (Image, error) {
	program, err := b.compile(ctx, pkg, versionOf(name))
	if err != nil {
		return Image{}, err
	}
	at := "/" + filepath.Base(pkg)
	return Image{
		Name: name, Entrypoint: []string{at},
		Layers: []Layer{base(), {{Path: at, Source: program}}},
	}, nil
}

// base is what programs expect of any system.
func base() Layer { return Layer{{Path: "/tmp", Mode: 0o777 | os.ModeSticky}} }

// proxy gives the image of a sidecar: Envoy with the libraries that it is linked with, and the agent.
func (b *builder) proxy(ctx context.Context, name string) (Image, error) {
	found, err := envoy.Find(ctx, envoy.FindOptions{Progress: b.progress})
	if err != nil {
		return Image{}, err
	}
	libraries, err := libraries(ctx, found)
	if err != nil {
		return Image{}, err
	}
	agent, err := b.compile(ctx, "cmd/heddle-sidecar", versionOf(name))
	if err != nil {
		return Image{}, err
	}
	return Image{
		Name: name, Entrypoint: []string{"/heddle-sidecar"}, User: ProxyUser,
		Layers: []Layer{
			append(base(), libraries...),
			{{Path: envoyPath, Source: found}},
			{{Path: "/heddle-sidecar", Source: agent}},
		},
	}, nil
}

// libraries are the shared ones of a program, the loader among them, each at the path where it will be looked for.
func libraries(ctx context.Context, program string) (Layer, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ask which libraries %s needs: %w", program, err)
	}
	var layer Layer
	for line := range strings.Lines(string(out)) {
		// Either "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f...)" or "/lib64/ld-linux-x86-64.so.2 (0x7f...)".
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("a library of %s is not there: %s", program, strings.TrimSpace(line))
		}
		if _, after, ok := strings.Cut(line, "=> "); ok {
			line = after
		}
		if path := strings.Fields(line)[0]; filepath.IsAbs(path) {
			layer = append(layer, File{Path: path, Source: path})
		}
	}
	return layer, nil
}

// versionOf is what programs in an image say that they are.
func versionOf(image string) string {
	if strings.HasSuffix(image, ":next") {
		return NextVersion
	}
	return Version
}

// compile builds a program of this repository that needs no library. The bytes depend on its source and version alone.
func (b *builder) compile(ctx context.Context, pkg, version string) (string, error) {
	out := filepath.Join(b.root, "bin", "image", version, filepath.Base(pkg))
	stamp := "-s -w -X github.com/heddle-mesh/heddle/buildinfo.version=" + version
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", stamp, "-o", out, "./"+pkg)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile %s: %w\n%s", pkg, err, said)
	}
	return out, nil
}
