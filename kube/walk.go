package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tree is what a folder holds: the files to read, and the folders to watch for all that may change about them.
type tree struct {
	files   []string        // by path as a person would write it, sorted
	visited map[string]bool // folders, by real path
	watched map[string]bool // folders, by real path: those visited, and those that linked files are in
	errs    []error         // what went wrong
	unseen  []string        // files and folders that could not be looked at: what is in them may still be there
	root    string
}

// walk looks through a folder and its subfolders. Symbolic links are followed, as a mounted ConfigMap is made of
// them; names that begin with a dot are passed over, as are such a mount's own inner folders. Each folder is given to
// watch before it is read, so that nothing appears in it unseen.
func walk(root string, watch func(folder string) error) *tree {
	t := &tree{root: root, visited: map[string]bool{}, watched: map[string]bool{}}
	t.folder(root, watch)
	slices.Sort(t.files)
	return t
}

func (t *tree) folder(path string, watch func(string) error) {
	folder, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.fail(path, err)
		return
	}
	if t.visited[folder] {
		return // by another link, or around in a circle
	}
	t.visited[folder] = true
	t.watch(folder, watch)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.fail(path, err)
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			t.entry(filepath.Join(path, e.Name()), watch)
		}
	}
}

func (t *tree) entry(path string, watch func(string) error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		t.fail(path, err)
	case info.IsDir():
		t.folder(path, watch)
	case info.Mode().IsRegular() && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)):
		t.files = append(t.files, path)
		t.target(path, watch)
	}
}

// target watches the folder that a linked file is really in.
func (t *tree) target(path string, watch func(string) error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.fail(path, err)
		return
	}
	t.watch(filepath.Dir(file), watch)
}

func (t *tree) watch(folder string, watch func(string) error) {
	if t.watched[folder] {
		return
	}
	t.watched[folder] = true
	if err := watch(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.errs = append(t.errs, fmt.Errorf("watch %s, so that a change in it is seen late: %w", folder, err))
	}
}

// fail notes what could not be looked at. What is gone is no failure: it was there a moment ago, or a link leads
// nowhere.
func (t *tree) fail(path string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		t.errs, t.unseen = append(t.errs, err), append(t.unseen, path)
	}
}

// mayHold says whether a file that was not found may still be there.
func (t *tree) mayHold(file string) bool {
	return slices.ContainsFunc(t.unseen, func(path string) bool {
		return path == t.root || path == file || strings.HasPrefix(file, path+string(filepath.Separator))
	})
}
