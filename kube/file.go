package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-mesh/heddle/policy"
)

// file is a manifest file as it is and as it last was good.
type file struct {
	sum      [sha256.Size]byte // of the content that was looked at last
	objects  []object          // of the last good content
	problems []policy.Problem  // of the content as it is
	missed   time.Time         // since when it is not there; zero if it is
}

// presence orders files that are there before those that are missing.
func (f *file) presence() int {
	if f.missed.IsZero() {
		return 0
	}
	return 1
}

// copyExt ends the names of last good copies. They are YAML, but must not be read as manifests where the state folder
// lies in the folder itself.
const copyExt = ".lastgood"

// read brings a file up to date.
func (f *Folder) read(path string) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // gone since the folder was listed: the next look will find so
	}
	known := f.files[path]
	if known == nil {
		known = &file{objects: f.recall(path)}
		f.files[path] = known
	}
	if err != nil {
		known.sum = [sha256.Size]byte{}
		known.problems = []policy.Problem{trouble(path, codeUnreadable, err.Error())}
		return
	}
	sum := sha256.Sum256(data)
	if known.sum == sum {
		return
	}
	known.sum = sum
	// A shell empties a file before it writes, and nobody means a file to be empty who could remove it.
	if len(bytes.TrimSpace(data)) == 0 && len(known.objects) > 0 {
		known.problems = []policy.Problem{trouble(path, codeEmptied, "the file is empty")}
		return
	}
	m := parseManifest(path, data)
	known.problems = m.problems
	if policy.Failed(m.problems) {
		return
	}
	known.objects = m.objects
	if f.options.State != "" {
		f.unkept[path] = data
	}
}

// maxManifest bounds a file: one that is larger is no manifest, and reading it would hold all others up for minutes.
// 5,000 Services with ten endpoints each take 8 MB.
const maxManifest = 16 << 20

// readBounded reads a file, but not more of it than a manifest can have.
func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("it has more than %d MiB, which is no manifest; spread it over several files", maxManifest>>20)
	}
	return data, err
}

func trouble(path string, code policy.Code, message string) policy.Problem {
	return policy.Problem{Code: code, Severity: policy.Error, File: path, Line: 1, Column: 1,
		Message: message, Hint: "what it said before stays; remove the file to remove that"}
}

// forget drops a file that is gone.
func (f *Folder) forget(path string) {
	delete(f.files, path)
	delete(f.unkept, path)
	if f.options.State == "" {
		return
	}
	if err := os.Remove(f.copyOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.options.Log.Warn().Err(err).Str("file", path).Msg("last good copy of a removed manifest stays behind")
	}
}

// copyOf is where the last good content of a file is kept.
func (f *Folder) copyOf(path string) string {
	sum := sha256.Sum256([]byte(f.name(path)))
	return filepath.Join(f.options.State, hex.EncodeToString(sum[:16])+copyExt)
}

// toKeep is ready to be received from while there is something to keep.
func (f *Folder) toKeep() <-chan struct{} {
	if len(f.unkept) == 0 {
		return nil
	}
	ready := make(chan struct{})
	close(ready)
	return ready
}

// keepAll saves good content for the next start, as far as time allows.
func (f *Folder) keepAll(within time.Duration) {
	for start := time.Now(); len(f.unkept) > 0; f.keepOne() {
		if time.Since(start) > within {
			f.options.Log.Warn().Int("files", len(f.unkept)).Msg("stopped before all good manifests were kept: those broken at the next start may lack objects")
			return
		}
	}
}

// keepOne saves the good content of one file.
func (f *Folder) keepOne() {
	for path, data := range f.unkept {
		delete(f.unkept, path)
		if old, err := os.ReadFile(f.copyOf(path)); err == nil && bytes.Equal(old, data) {
			return
		}
		if err := writePrivate(f.copyOf(path), data); err != nil {
			f.options.Log.Error().Err(err).Str("file", path).
				Msg("last good manifest is not kept: if it is broken at the next start, its objects are missing")
		}
		return
	}
}

// recall gives the objects of a file's last good content from before the start.
func (f *Folder) recall(path string) []object {
	if f.options.State == "" {
		return nil
	}
	data, err := os.ReadFile(f.copyOf(path))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.options.Log.Error().Err(err).Str("file", path).Msg("last good manifest cannot be read")
		}
		return nil
	}
	return parseManifest(path, data).objects
}

// recallAll takes what was kept of all files, where the folder holds none at the start. Which files they were is not
// known; they are missing as soon as there are some.
func (f *Folder) recallAll() {
	for _, path := range f.copies() {
		if data, err := os.ReadFile(path); err == nil {
			f.files[path] = &file{objects: parseManifest(path, data).objects}
		}
	}
}

// copies lists what is kept.
func (f *Folder) copies() []string {
	if f.options.State == "" {
		return nil
	}
	copies, err := filepath.Glob(filepath.Join(f.options.State, "*"+copyExt))
	if err != nil {
		f.options.Log.Warn().Err(err).Msg("last good copies of manifests cannot be looked at")
	}
	return copies
}

// sweep removes what was kept of files that are no longer there, if all that is there was seen.
func (f *Folder) sweep() {
	if f.partial {
		return
	}
	wanted := map[string]bool{}
	for path := range f.files {
		wanted[f.copyOf(path)] = true
	}
	for _, c := range f.copies() {
		if !wanted[c] {
			_ = os.Remove(c) // an old copy that stays does no harm
		}
	}
}
