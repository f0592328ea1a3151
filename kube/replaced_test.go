package kube

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFolderThatHoldsNoManifestsKeepsWhatItHadUntilItHasSomeAgain(t *testing.T) {
	o := FolderOptions{Dir: t.TempDir(), State: filepath.Join(t.TempDir(), "state")}
	write(t, filepath.Join(o.Dir, "a.yaml"), aPod("a"))
	write(t, filepath.Join(o.Dir, "sub/b.yaml"), aPod("b"))
	w, _ := watch(t, o)
	do(t, os.RemoveAll(w.path("sub")))
	do(t, os.Remove(w.path("a.yaml")))
	w.problem(w.dir + ":1:1: HDL2004: the folder holds no manifests")
	w.stop()
	if len(w.batches) > 0 {
		t.Errorf("got events %q, want none", namesOf(<-w.batches))
	}

	w, first := watch(t, o) // a restart makes no difference
	diff(t, []string{"Pod default/a", "Pod default/b"}, namesOf(first))
	w.problem(w.dir + ":1:1: HDL2004: the folder holds no manifests")
	write(t, w.path("b.yaml"), aPod("b"))
	w.wants("-Pod default/a")
	w.problem("")
	write(t, w.path("b.yaml"), "# nothing, and that is meant\n")
	w.wants("-Pod default/b")
}

func TestAFileIsGoneOnceTheFolderHasBeenQuiet(t *testing.T) {
	dir := t.TempDir()
	f := NewFolder(FolderOptions{Dir: dir})
	do(t, f.open())
	defer f.watcher.Close()
	now := time.Now()
	look := func(what string, want ...string) {
		t.Helper()
		if got := namesOf(f.scan(now)); len(got)+len(want) > 0 {
			diff(t, want, got)
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
	later := func(d time.Duration) { now = now.Add(d) }
	change := func(name, text string) {
		f.changed = now
		if text == "" {
			do(t, os.Remove(filepath.Join(dir, name)))
			return
		}
		write(t, filepath.Join(dir, name), text)
	}
	change("a.yaml", aPod("a"))
	change("b.yaml", aPod("b"))
	look("the start", "Pod default/a", "Pod default/b")

	change("a.yaml", "")
	look("a is missing")
	later(absence - time.Millisecond)
	change("b.yaml", "")
	look("so is b, and the folder is empty now")
	later(time.Hour)
	look("it stays so")
	change("b.yaml", aPod("b"))
	look("half of it is back")
	later(absence - time.Millisecond)
	change("c.yaml", aPod("a"))
	look("what a.yaml had is in another file")
	if len(f.problems) > 0 {
		t.Errorf("problems are %v, want none: a.yaml is not there", f.problems)
	}
	later(absence)
	look("all that was missing is gone")

	change("c.yaml", "")
	look("c is missing")
	for range recheck / time.Second {
		later(time.Second)
		change("b.yaml", aPod("b"))
	}
	look("the folder is never quiet, but that was long enough", "-Pod default/a")
}
