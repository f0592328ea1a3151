package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const folderPrefix = "heddle-demo-"

// folder is the directory of one demo. It is locked for as long as its process lives.
type folder struct {
	path string
	lock *os.File
}

// makeFolder makes one, and removes those of demos that were killed.
func makeFolder() (folder, error) {
	removeStale(time.Now())
	path, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return folder{}, fmt.Errorf("make a directory for the demo: %w", err)
	}
	lock, err := lockFolder(path)
	if err != nil {
		return folder{}, errors.Join(fmt.Errorf("lock the demo's directory %s: %w", path, err), os.RemoveAll(path))
	}
	return folder{path, lock}, nil
}

func (f folder) remove() error { return errors.Join(os.RemoveAll(f.path), f.lock.Close()) }

// lockFolder fails at once if another process has the lock. The kernel gives it back when the process ends.
func lockFolder(path string) (*os.File, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// removeStale removes directories that nobody holds. A new one may not be locked yet. What cannot be removed, another
// user's for example, is left for its owner.
func removeStale(now time.Time) {
	paths, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return // TempDir holds a character that Glob takes for a pattern
	}
	for _, path := range paths {
		st, err := os.Lstat(path)
		if err != nil || !st.IsDir() || now.Sub(st.ModTime()) < time.Minute {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			_ = folder{path, lock}.remove()
		}
	}
}

// removeWhenKilled removes the directory, too, if one more signal kills the demo while it ends, which the first has
// told it to. The sidecars need nothing of it any more, and the kernel kills them with us.
func (f folder) removeWhenKilled(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
		if !signal.Ignored(syscall.SIGHUP) {
			signals = append(signals, syscall.SIGHUP)
		}
		killed := make(chan os.Signal, 1)
		signal.Notify(killed, signals...)
		defer signal.Stop(killed)
		select {
		case s := <-killed:
			_ = os.RemoveAll(f.path) // what is left is removed by the next demo
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal)) // whoever waits for us sees what ended us
		case <-done:
		}
	})
	return func() {
		unwatch()
		close(done)
	}
}
