package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what a container starts from.
type Image struct {
	Name       string // the full one, as in docker.io/library/heddle:test
	Entrypoint []string
	User       string // default: root
	Env        []string
	Layers     []Layer // what changes seldom first
}

// Layer is a set of files.
type Layer []File

// File is a file of this machine, by the path that it has in the image, or a folder, or a symbolic link.
type File struct {
	Path   string      // absolute
	Source string      // on this machine; empty for a folder or a link
	Link   string      // target of a symbolic link
	Mode   os.FileMode // permissions; default: 0755
}

// Write writes an image into the folder as a tar file of the form that `docker save` writes, unless it is there, and gives
// its path. The same image gives the same bytes.
func Write(dir string, image Image) (string, error) {
	built, digest, err := build(image)
	if err != nil {
		return "", fmt.Errorf("make the image %s: %w", image.Name, err)
	}
	tag, err := name.NewTag(image.Name)
	if err != nil {
		return "", fmt.Errorf("name an image: %w", err)
	}
	short := path.Base(tag.RepositoryStr())
	file := filepath.Join(dir, short+"-"+digest[:12]+".tar")
	if _, err := os.Stat(file); err == nil {
		return file, touch(file)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of images: %w", err)
	}
	prune(dir, short)
	// Renaming is atomic: whoever looks meanwhile sees no image or a whole one.
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	defer os.Remove(tmp)
	if err := tarball.WriteToFile(tmp, tag, built); err != nil {
		return "", fmt.Errorf("write the image %s: %w", image.Name, err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return "", fmt.Errorf("put the image %s into the cache: %w", image.Name, err)
	}
	return file, nil
}

// keep is for how long an image stays that nobody asked for.
const keep = 24 * time.Hour

func touch(file string) error {
	now := time.Now()
	return os.Chtimes(file, now, now)
}

// prune removes older forms of an image.
func prune(dir, short string) {
	files, err := filepath.Glob(filepath.Join(dir, short+"-????????????.tar"))
	if err != nil {
		return // dir holds a character that Glob cannot match; the cache only grows
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > keep {
			os.Remove(file)
		}
	}
}

// build gives an image, and the digest of its configuration, which tells it from all others.
func build(image Image) (v1.Image, string, error) {
	img := mutate.MediaType(empty.Image, types.DockerManifestSchema2)
	img = mutate.ConfigMediaType(img, types.DockerConfigJSON)
	for _, l := range image.Layers {
		layer, err := newPlain(l)
		if err != nil {
			return nil, "", err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, "", fmt.Errorf("add a layer: %w", err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, "", fmt.Errorf("read the configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint, config.Config.User = image.Entrypoint, image.User
	config.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, image.Env...)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, "", fmt.Errorf("set the configuration: %w", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		return nil, "", fmt.Errorf("hash the configuration: %w", err)
	}
	return img, digest.Hex, nil
}

// plain is a layer that is not compressed: it goes from one disk to the same one.
type plain struct {
	files Layer
	hash  v1.Hash
	size  int64
}

func newPlain(files Layer) (*plain, error) {
	l := &plain{files: sorted(files)}
	h := sha256.New()
	counted := &counter{w: h}
	if err := l.write(counted); err != nil {
		return nil, err
	}
	l.hash, l.size = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}, counted.n
	return l, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// sorted gives files in order, each folder before what is in it.
func sorted(files Layer) Layer {
	known := map[string]bool{}
	all := Layer{}
	for _, f := range files {
		known[f.Path] = true
		all = append(all, f)
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "/" && !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			all = append(all, File{Path: dir})
		}
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (l *plain) write(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, f := range l.files {
		if err := f.write(out); err != nil {
			return fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	return out.Close()
}

func (f File) write(out *tar.Writer) error {
	mode := f.Mode
	if mode == 0 {
		mode = 0o755
	}
	header := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: tarMode(mode), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
		return out.WriteHeader(header)
	case f.Source == "":
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return out.WriteHeader(header)
	}
	source, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, source)
	return err
}

func tarMode(mode os.FileMode) int64 {
	bits := int64(mode.Perm())
	if mode&os.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// Digest implements v1.Layer.
func (l *plain) Digest() (v1.Hash, error) { return l.hash, nil }

// DiffID implements v1.Layer.
func (l *plain) DiffID() (v1.Hash, error) { return l.hash, nil }

// Compressed implements v1.Layer.
func (l *plain) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed implements v1.Layer.
func (l *plain) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.write(w)) }()
	return r, nil
}

// Size implements v1.Layer.
func (l *plain) Size() (int64, error) { return l.size, nil }

// MediaType implements v1.Layer.
func (l *plain) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }
