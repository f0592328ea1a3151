package keep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	caFile    = "ca.json"
	trustFile = "trust.json"
	lockFile  = "lock"

	maxFile = 4 << 20
)

// InDirectory keeps the CA in a directory of its own, for one process on one machine. The directory is made with mode
// 0700 if it is not there. Files that others may read are refused: their keys are known to whoever looked.
func InDirectory(o Options, path string) (*Keeper, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the CA: %w", err)
	}
	d := &directory{path: path}
	if err := d.private(path); err != nil {
		return nil, err
	}
	return newKeeper(o, d), nil
}

type directory struct{ path string }

func (d *directory) caName() string    { return filepath.Join(d.path, caFile) }
func (d *directory) trustName() string { return filepath.Join(d.path, trustFile) }

// private refuses what users other than ours can read or write.
func (d *directory) private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	want := os.FileMode(0o600)
	if info.IsDir() {
		want = 0o700
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file; the CA is kept in one", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &Fault{Code: Exposed, Message: fmt.Sprintf(
			"%s has mode %04o, so others may have read the CA's keys; run chmod %04o %s, and rotate the CA if they have", path, info.Mode().Perm(), want, path)}
	}
	return nil
}

// trustForm is trust.json.
type trustForm struct {
	Fingerprint string          `json:"fingerprint"`
	Bundle      json.RawMessage `json:"bundle"`
}

func (d *directory) read(context.Context) (s stored, err error) {
	text, err := d.file(d.trustName())
	if err == nil && text != nil {
		var t trustForm
		if err = json.Unmarshal(text, &t); err == nil && t.Fingerprint == "" {
			err = errors.New("it has no fingerprint")
		}
		s.trust = trust{t.Fingerprint, t.Bundle}
	}
	if err != nil {
		return stored{}, fmt.Errorf("read %s: %w", d.trustName(), err)
	}
	if s.ca, err = d.file(d.caName()); err != nil || s.ca == nil {
		return s, err
	}
	return s, d.private(d.caName())
}

// file gives a file's content, nil if it is not there.
func (d *directory) file(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err == nil && text == nil {
		text = []byte{}
	}
	return text, err
}

func (d *directory) writeCA(_ context.Context, was stored, text []byte) error {
	if was.ca == nil {
		if _, err := os.Lstat(d.caName()); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write %s: %w", d.caName(), errors.Join(errChanged, err))
		}
	}
	return d.replace(d.caName(), text, 0o600)
}

func (d *directory) writeTrust(_ context.Context, _ stored, t trust) error {
	text, err := json.Marshal(trustForm{t.Fingerprint, t.Bundle})
	if err != nil {
		return fmt.Errorf("write %s: %w", d.trustName(), err)
	}
	return d.replace(d.trustName(), text, 0o600)
}

func (d *directory) forgetTrust(context.Context, stored) error {
	return errors.Join(os.Remove(d.trustName()), d.sync())
}

func (d *directory) copyTrust(context.Context, trust, []string) map[string]error { return nil }

// replace puts a file in the place of another in one step. It is on the disk when it returns: what follows from the
// CA's state must not be seen by anybody before the state itself is safe.
func (d *directory) replace(path string, text []byte, mode os.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	f, err := os.CreateTemp(d.path, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there any more if all went well
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), path), d.sync())
}

func (d *directory) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) holds() bool { return true } // the lock goes with the process, and not before

func (d *directory) alone() bool { return true }

// lead holds the directory's lock while work runs. Another process that holds it is an error: somebody started two.
func (d *directory) lead(ctx context.Context, work func(ctx context.Context)) error {
	path := filepath.Join(d.path, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock of the CA's directory: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another process keeps its CA in %s (%w); end it, or use another directory", d.path, err)
	}
	work(ctx)
	return nil
}
