package kube

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/test/wait"
)

// watching is a running Folder and what it said.
type watching struct {
	t        *testing.T
	dir      string
	batches  chan []model.Event
	problems chan []policy.Problem
	stop     func()
}

// watch runs a Folder until the test ends or stops it, and takes away its first batch.
func watch(t *testing.T, o FolderOptions) (*watching, []model.Event) {
	t.Helper()
	w := &watching{t: t, dir: o.Dir, batches: make(chan []model.Event, 100), problems: make(chan []policy.Problem, 100)}
	o.Problems = func(ps []policy.Problem) { w.problems <- ps }
	w.stop = wait.Background(t, "the folder", func(ctx context.Context) error {
		return NewFolder(o).Run(ctx, func(es []model.Event) { w.batches <- es })
	})
	first := w.next()
	if last := first[len(first)-1]; !last.Synced {
		t.Fatalf("the first batch ends with %+v, want Synced", last)
	}
	return w, first[:len(first)-1]
}

// next waits for the next batch.
func (w *watching) next() []model.Event {
	w.t.Helper()
	select {
	case es := <-w.batches:
		return es
	case <-time.After(20 * time.Second):
		w.t.Fatal("no event within 20 s")
		return nil
	}
}

// wants waits for events and no others, as "Pod default/a" or "-Pod default/a" for one that is gone; they may come in
// several batches.
func (w *watching) wants(want ...string) []model.Event {
	w.t.Helper()
	var got []model.Event
	for len(got) < len(want) {
		got = append(got, w.next()...)
	}
	if names := namesOf(got); !slices.Equal(names, want) {
		w.t.Errorf("got events %q, want %q", names, want)
	}
	return got
}

func namesOf(events []model.Event) []string {
	var names []string
	for _, e := range events {
		name := subjectOf(e).String()
		if e.Gone {
			name = "-" + name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// problem waits until there is one problem, which begins with what, or none if what is empty.
func (w *watching) problem(what string) {
	w.t.Helper()
	var last []policy.Problem
	for {
		select {
		case last = <-w.problems:
			if what == "" && len(last) == 0 || what != "" && len(last) == 1 && strings.HasPrefix(last[0].String(), what) {
				return
			}
		case <-time.After(20 * time.Second):
			w.t.Fatalf("problems are %v, want %q", last, what)
		}
	}
}

func (w *watching) path(name string) string { return filepath.Join(w.dir, name) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func withLabel(pod, value string) string {
	return strings.Replace(pod, "metadata:\n", "metadata:\n  labels: {v: '"+value+"'}\n", 1)
}

func TestAFolderSaysEverythingThenWhatChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), aPod("a"))
	write(t, filepath.Join(dir, "sub/deep/b.yml"), aPod("b"))
	write(t, filepath.Join(dir, "notes.txt"), "not read")
	write(t, filepath.Join(dir, ".hidden.yaml"), "not: read")
	w, first := watch(t, FolderOptions{Dir: dir})
	diff(t, []string{"Pod default/a", "Pod default/b"}, namesOf(first))

	write(t, w.path("c.yaml"), aPod("c"))
	w.wants("Pod default/c")
	write(t, w.path("a.yaml"), withLabel(aPod("a"), "2"))
	if got := w.wants("Pod default/a"); got[0].Pod.Labels.String() != "v=2" {
		t.Errorf("got labels %v, want v=2", got[0].Pod.Labels)
	}
	do(t, os.Remove(w.path("sub/deep/b.yml")))
	w.wants("-Pod default/b")
}

func TestWhatMeansTheSameIsNotSaidAgain(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	write(t, w.path("a.yaml"), "# with a comment\n"+aPod("a"))
	do(t, os.Rename(w.path("a.yaml"), w.path("b.yaml")))
	write(t, w.path("c.yaml"), aPod("c"))
	w.wants("Pod default/c")
}

func TestABrokenFileKeepsItsLastGoodObjects(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("a.yaml"), aPod("a")+"---\n"+aPod("b"))
	w.wants("Pod default/a", "Pod default/b")

	write(t, w.path("a.yaml"), aPod("a")+"---\n"+aPod("b")+"  podIPs: [\n")
	w.problem(w.path("a.yaml") + ":14:3: HDL1002: not YAML")
	write(t, w.path("other.yaml"), aPod("other")) // others go on
	w.wants("Pod default/other")

	write(t, w.path("a.yaml"), aPod("a")) // mended, without b
	w.wants("-Pod default/b")
	w.problem("")
}

func TestAnEmptiedFileIsTakenForHalfWritten(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	write(t, w.path("a.yaml"), "\n")
	w.problem(w.path("a.yaml") + ":1:1: HDL2003: the file is empty")
	write(t, w.path("a.yaml"), "# nothing, and that is meant\n")
	w.wants("-Pod default/a")
}

func TestAFileThatIsNoManifestCostsOnlyItself(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	huge, err := os.OpenFile(w.path("a.yaml"), os.O_WRONLY, 0)
	do(t, err)
	do(t, huge.Truncate(1<<40)) // takes no space, and would take a terabyte to read
	do(t, huge.Close())
	w.problem(w.path("a.yaml") + ":1:1: HDL2004: it has more than 16 MiB")
	write(t, w.path("b.yaml"), aPod("b"))
	w.wants("Pod default/b")
}

func TestOfTooManyProblemsOneStandsForTheRest(t *testing.T) {
	stray := strings.Repeat("---\nkind: Values\n", 3*maxProblems)
	m := parseManifest("a.yaml", []byte(stray+"---\n"+aPod("a")))
	if n := len(m.problems); n != maxProblems+1 || policy.Failed(m.problems) || len(m.objects) != 1 {
		t.Errorf("%d problems, failed %v, %d objects; want %d warnings and the Pod", n, policy.Failed(m.problems), len(m.objects), maxProblems+1)
	}
	if m = parseManifest("a.yaml", []byte(stray+"---\n[\n---\n"+aPod("a"))); !policy.Failed(m.problems) {
		t.Error("an error behind too many warnings is lost")
	}
	if m = parseManifest("a.yaml", []byte(strings.Repeat("a: b\n", 100_000))); len(m.problems) != maxProblems+1 {
		t.Errorf("%d problems; want %d", len(m.problems), maxProblems+1)
	}
}

func TestALinkThatLeadsInACircleCostsOnlyItself(t *testing.T) {
	dir := t.TempDir()
	o := FolderOptions{Dir: dir, State: filepath.Join(t.TempDir(), "state")}
	write(t, filepath.Join(dir, "a.yaml"), aPod("a"))
	write(t, filepath.Join(dir, "sub/b.yaml"), aPod("b"))
	w, _ := watch(t, o)
	w.stop()

	do(t, os.RemoveAll(w.path("sub")))
	do(t, os.Symlink("sub", w.path("sub"))) // a file below it cannot be looked at now
	w, _ = watch(t, o)
	w.problem(dir + ":1:1: HDL2004: ")
	do(t, os.Remove(w.path("a.yaml"))) // a file beside it can
	w.wants("-Pod default/a")
	do(t, os.Remove(w.path("sub")))
	write(t, w.path("sub/b.yaml"), "nonsense: [") // what is kept of it was not swept away
	w.wants("Pod default/b")
}

func TestNewSubfoldersAreWatchedToo(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("other.yaml"), "# so that the folder is never without manifests\n")
	write(t, w.path("new/deeper/a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	write(t, w.path("new/deeper/b.yaml"), aPod("b"))
	w.wants("Pod default/b")
	do(t, os.RemoveAll(w.path("new")))
	w.wants("-Pod default/a", "-Pod default/b")
	write(t, w.path("new/deeper/a.yaml"), aPod("a"))
	w.wants("Pod default/a")
}

func TestEditorsMayPutFilesInPlaceByRenaming(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	write(t, w.path(".a.yaml.swp"), withLabel(aPod("a"), "2"))
	do(t, os.Rename(w.path(".a.yaml.swp"), w.path("a.yaml")))
	w.wants("Pod default/a")
	write(t, w.path("a.yaml"), withLabel(aPod("a"), "3")) // the new file is watched as the old one was
	w.wants("Pod default/a")
}

// A mounted ConfigMap is a folder ..data, a link that is swapped, and links to the files in it (the kubelet's
// AtomicWriter).
func TestAMountedConfigMapIsFollowedWhenItIsSwapped(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..1/a.yaml"), aPod("a"))
	do(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	do(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")))
	w, first := watch(t, FolderOptions{Dir: dir})
	diff(t, []string{"Pod default/a"}, namesOf(first))

	for _, version := range []string{"..2", "..3"} {
		write(t, w.path(version+"/a.yaml"), withLabel(aPod("a"), version))
		do(t, os.Symlink(version, w.path("..data_tmp")))
		do(t, os.Rename(w.path("..data_tmp"), w.path("..data")))
		if got := w.wants("Pod default/a"); got[0].Pod.Labels.String() != "v="+version {
			t.Errorf("got labels %v, want those of %s", got[0].Pod.Labels, version)
		}
		do(t, os.RemoveAll(w.path("..1")))
	}
}

func TestLinkedFilesAndFoldersAreWatchedWhereTheyAre(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, filepath.Join(elsewhere, "folder/a.yaml"), aPod("a"))
	write(t, filepath.Join(elsewhere, "files/b.yaml"), aPod("b"))
	do(t, os.Symlink(filepath.Join(elsewhere, "folder"), filepath.Join(dir, "folder")))
	do(t, os.Symlink(filepath.Join(elsewhere, "files/b.yaml"), filepath.Join(dir, "b.yaml")))
	do(t, os.Symlink(dir, filepath.Join(elsewhere, "folder/circle")))
	w, first := watch(t, FolderOptions{Dir: dir})
	diff(t, []string{"Pod default/a", "Pod default/b"}, namesOf(first))

	write(t, filepath.Join(elsewhere, "folder/a.yaml"), withLabel(aPod("a"), "2"))
	w.wants("Pod default/a")
	write(t, filepath.Join(elsewhere, "files/b.yaml"), withLabel(aPod("b"), "2"))
	w.wants("Pod default/b")
}

func TestWhatTwoFilesHaveCountsInTheFirst(t *testing.T) {
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("b.yaml"), withLabel(aPod("a"), "b"))
	w.wants("Pod default/a")
	write(t, w.path("c.yaml"), "\n"+withLabel(aPod("a"), "c"))
	w.problem(w.path("c.yaml") + ":2:1: HDL2002: warning: Pod default/a stands at " + w.path("b.yaml") + ":1 too")
	do(t, os.Remove(w.path("b.yaml")))
	if got := w.wants("Pod default/a"); got[0].Pod.Labels.String() != "v=c" {
		t.Errorf("got labels %v, want those of the file that is left", got[0].Pod.Labels)
	}
	w.problem("")
}

func TestAFolderThatGoesAwayTakesNothingWithIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	write(t, filepath.Join(dir, "a.yaml"), aPod("a"))
	w, _ := watch(t, FolderOptions{Dir: dir})

	do(t, os.Rename(dir, dir+".old"))
	w.problem(dir + ":1:1: HDL2004: the folder is gone; what was read there before stays")
	write(t, filepath.Join(dir+".new", "a.yaml"), aPod("a"))
	write(t, filepath.Join(dir+".new", "b.yaml"), aPod("b"))
	do(t, os.Rename(dir+".new", dir))
	w.wants("Pod default/b")
	w.problem("")
	write(t, w.path("c.yaml"), aPod("c"))
	w.wants("Pod default/c")
}

func TestAPolicyThatMovesInItsFileIsSaidAgain(t *testing.T) {
	const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p, labels: {heddle.dev/policy: 'true'}}\ndata:\n  a.yaml: |\n    kind: Traffic\n"
	w, _ := watch(t, FolderOptions{Dir: t.TempDir()})
	write(t, w.path("p.yaml"), text)
	want := model.PolicyDocument{Item: "a.yaml", Text: "kind: Traffic\n", File: w.path("p.yaml"), Line: 6, Column: 4}
	diff(t, want, w.wants("ConfigMap default/p")[0].Policy.Documents[0])
	write(t, w.path("p.yaml"), "# mine\n"+text)
	want.Line = 7
	diff(t, want, w.wants("ConfigMap default/p")[0].Policy.Documents[0])
}

func TestAFileThatIsBrokenAtTheStartHasItsLastGoodObjectsFromBefore(t *testing.T) {
	dir := t.TempDir()
	o := FolderOptions{Dir: dir, State: filepath.Join(dir, "state")}
	write(t, filepath.Join(dir, "a.yaml"), aPod("a"))
	write(t, filepath.Join(dir, "b.yaml"), aPod("b"))
	w, first := watch(t, o)
	diff(t, []string{"Pod default/a", "Pod default/b"}, namesOf(first))
	w.stop()

	write(t, filepath.Join(dir, "a.yaml"), aPod("a")+"nonsense")
	do(t, os.Remove(filepath.Join(dir, "b.yaml")))
	w, first = watch(t, o)
	diff(t, []string{"Pod default/a"}, namesOf(first))
	w.problem(w.path("a.yaml") + ":7:")
	w.stop()

	write(t, filepath.Join(dir, "b.yaml"), "nonsense: [") // what was kept of an earlier file of this name is gone
	_, first = watch(t, o)
	diff(t, []string{"Pod default/a"}, namesOf(first))

	info, err := os.Stat(o.State)
	do(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the state folder has mode %v, want 0700", info.Mode())
	}
}

func TestStoppingWaitsForSlowDisksForAWhileOnly(t *testing.T) {
	f := NewFolder(FolderOptions{Dir: t.TempDir(), State: t.TempDir()})
	for i := range 50 {
		f.unkept[filepath.Join(f.options.Dir, strconv.Itoa(i)+".yaml")] = []byte(aPod("a"))
	}
	f.keepAll(0)
	if len(f.unkept) == 0 {
		t.Error("all was kept, in no time")
	}
	f.keepAll(time.Minute)
	copies, err := filepath.Glob(filepath.Join(f.options.State, "*"+copyExt))
	do(t, err)
	if len(f.unkept) > 0 || len(copies) != 50 {
		t.Errorf("%d are not kept, %d are; want 50", len(f.unkept), len(copies))
	}
}

func TestDeliveriesAreObserved(t *testing.T) {
	seen := make(chan Delivery, 10)
	w, _ := watch(t, FolderOptions{Dir: t.TempDir(), Observe: func(d Delivery) { seen <- d }})
	<-seen // the first one
	write(t, w.path("a.yaml"), aPod("a"))
	w.wants("Pod default/a")
	if d := <-seen; d.Events != 1 || d.Waited < settle {
		t.Errorf("got %+v, want one event that waited for quiet at least", d)
	}
}

func TestAMissingFolderIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, dir := range []string{file, file + ".missing"} {
		err := NewFolder(FolderOptions{Dir: dir}).Run(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want an error that names %s", err, dir)
		}
	}
}
