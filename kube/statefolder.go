package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/model"
)

// StateFolder keeps the last good policies in a folder of its own, one file each.
type StateFolder struct {
	dir string
	log zerolog.Logger
}

// NewStateFolder gives a keeper; the folder is made when it is first needed, and closed to others.
func NewStateFolder(dir string, log zerolog.Logger) *StateFolder { return &StateFolder{dir, log} }

// Load gives what was saved. A file that cannot be read is told of in the log and passed over.
func (s *StateFolder) Load(context.Context) ([]model.SavedPolicy, error) {
	if err := openPrivate(s.dir); err != nil {
		return nil, fmt.Errorf("open the state folder: %w; name one that we may write to", err)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*"+savedExt))
	if err != nil {
		return nil, fmt.Errorf("look into the state folder %s: %w", s.dir, err)
	}
	var policies []model.SavedPolicy
	for _, path := range files {
		p, err := readSaved(path)
		if err != nil {
			s.log.Error().Err(err).Str("file", path).Msg("saved policy is lost: until it is applied again, its last good version is unknown")
			continue
		}
		policies = append(policies, p)
	}
	return policies, nil
}

// openPrivate makes a folder that only its owner may look into. One that is so already may be on a disk that cannot be
// written to: what it holds is as good as before.
func openPrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() == 0o700 {
		return err
	}
	return os.Chmod(dir, 0o700)
}

func readSaved(path string) (model.SavedPolicy, error) {
	info, err := os.Stat(path)
	if err != nil {
		return model.SavedPolicy{}, err
	}
	if !info.Mode().IsRegular() {
		return model.SavedPolicy{}, errors.New("it is no file") // reading a pipe would not end
	}
	if info.Size() > maxSaved {
		return model.SavedPolicy{}, fmt.Errorf("it has %d bytes, more than anything that was saved", info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return model.SavedPolicy{}, err
	}
	return decodeSaved(data)
}

// Save keeps a policy, whole or not at all, or removes it if nothing is left to keep. One that can never be kept gives
// ErrTooLarge.
func (s *StateFolder) Save(_ context.Context, p model.SavedPolicy) error {
	if err := s.save(p); err != nil {
		return fmt.Errorf("keep the last good version of ConfigMap %s, %s: %w", p.ConfigMap, p.Item, err)
	}
	return nil
}

func (s *StateFolder) save(p model.SavedPolicy) error {
	path := s.path(p)
	if p.Empty() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := encodeSaved(p)
	if err != nil {
		return err
	}
	return writePrivate(path, data)
}

const savedExt = ".json"

// path does not tell ConfigMaps of one name apart: the newer takes the older's place.
func (s *StateFolder) path(p model.SavedPolicy) string {
	sum := sha256.Sum256([]byte(p.ConfigMap.String() + " " + p.Item))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+savedExt)
}

// writePrivate puts a file into place whole or not at all, whatever happens meanwhile, for its owner's eyes only.
func writePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // of no effect once it was renamed
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable, as rename alone does not (fsync(2)).
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the state folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("make the state folder durable: %w", err)
	}
	return nil
}
