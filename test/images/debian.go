package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debian gives an image of Debian packages and all that they depend on, as apt would install them on an empty system. They
// are only unpacked: no script of theirs runs.
func (b *builder) debian(ctx context.Context, name string, packages ...string) (Image, error) {
	root, err := b.unpack(ctx, packages)
	if err != nil {
		return Image{}, err
	}
	files, err := tree(root)
	if err != nil {
		return Image{}, err
	}
	return Image{Name: name, Entrypoint: []string{"/bin/bash"}, Layers: []Layer{files}}, nil
}

// unpack gives a folder with what is in the packages, from the cache or fetched.
func (b *builder) unpack(ctx context.Context, packages []string) (string, error) {
	// Another release has other packages by the same names.
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("ask which release this is: %w", err)
	}
	key := sha256.Sum256(fmt.Appendf(nil, "3 %s %s", strings.Join(packages, " "), release))
	dir := filepath.Join(b.cache, "debian", fmt.Sprintf("%x", key[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("fetch the Debian packages %s: %w; make this image on Debian or Ubuntu", strings.Join(packages, " "), err)
	}
	fmt.Fprintf(b.progress, "fetching Debian packages: %s (once)\n", strings.Join(packages, " "))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the folder of images: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return "", fmt.Errorf("make the folder of images: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := fetch(ctx, filepath.Join(tmp, "archives"), packages); err != nil {
		return "", err
	}
	if err := extract(ctx, filepath.Join(tmp, "archives"), filepath.Join(tmp, "root")); err != nil {
		return "", err
	}
	err = os.Rename(filepath.Join(tmp, "root"), dir)
	if errors.Is(err, fs.ErrExist) {
		err = nil // another process was faster
	}
	if err != nil {
		return "", fmt.Errorf("put Debian packages into the cache: %w", err)
	}
	return dir, nil
}

// fetch downloads packages and all that they depend on, from the places that this machine's apt knows.
func fetch(ctx context.Context, dir string, packages []string) error {
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return fmt.Errorf("make a folder for packages: %w", err)
	}
	empty := filepath.Join(dir, "status") // of a system on which nothing is installed
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return fmt.Errorf("make an empty list of packages: %w", err)
	}
	args := []string{"--download-only", "--yes", "--no-install-recommends",
		"-o", "Dir::State::status=" + empty, "-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1",
		"-o", "APT::Sandbox::User=root", "install", "--"}
	cmd := exec.CommandContext(ctx, "apt-get", append(args, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch the Debian packages %s: %w; apt-get update may help\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}

// extract unpacks all packages of a folder, in order.
func extract(ctx context.Context, archives, root string) error {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		// Debian's base has had these as links for years, and packages still name files below them.
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "usr", dir), 0o755), os.Symlink("usr/"+dir, filepath.Join(root, dir))); err != nil {
			return fmt.Errorf("make the folders of a Debian system: %w", err)
		}
	}
	found, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("unpack Debian packages: none in %s: %w", archives, err)
	}
	slices.Sort(found)
	for _, archive := range found {
		const unpack = `dpkg-deb --fsys-tarfile "$0" | tar -x --keep-directory-symlink -C "$1"`
		if out, err := exec.CommandContext(ctx, "bash", "-ec", "set -o pipefail; "+unpack, archive, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", archive, err, out)
		}
	}
	return finish(root)
}

// finish does what the packages' scripts would have done that matters to programs.
func finish(root string) error {
	for path, content := range map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":         "root:x:0:\nnogroup:x:65534:\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			return fmt.Errorf("finish a Debian system: %w", err)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "bin/sh")); errors.Is(err, fs.ErrNotExist) {
		if err := os.Symlink("bash", filepath.Join(root, "bin/sh")); err != nil {
			return fmt.Errorf("finish a Debian system: %w", err)
		}
	}
	return nil
}

// unneeded are folders for people, for other languages, and for package managers.
func unneeded() []string {
	return []string{"/usr/share", "/usr/include", "/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib/aarch64-linux-gnu/gconv",
		"/usr/lib/x86_64-linux-gnu/perl-base", "/usr/lib/aarch64-linux-gnu/perl-base", "/var/lib/dpkg", "/var/cache"}
}

// tree gives all files below a folder as a layer, without those that no test needs.
func tree(root string) (Layer, error) {
	var files Layer
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path, root)
		switch {
		case at == "":
			return nil
		case slices.Contains(unneeded(), at):
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := File{Path: at, Mode: info.Mode()}
		switch {
		case d.Type() == fs.ModeSymlink:
			if f.Link, err = os.Readlink(path); err != nil {
				return err
			}
		case d.Type().IsRegular():
			f.Source = path
		case !d.IsDir():
			return nil // a device or the like
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of a Debian system: %w", err)
	}
	return files, nil
}
