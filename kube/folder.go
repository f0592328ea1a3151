package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// FolderOptions say which folder to read.
type FolderOptions struct {
	Dir string // with *.yaml and *.yml in it and in its subfolders
	// State is a folder for what was good of each file, so that a file that is broken when Heddle starts does not take
	// its objects away. Empty: that is only remembered while Heddle runs.
	State    string
	Log      zerolog.Logger
	Problems func([]policy.Problem) // called with all there are, whenever they change; may be nil
	Observe  func(Delivery)         // called before each batch is handed on; may be nil
}

// Folder is a Source that reads Kubernetes manifests and watches them. A file that is half written or wrong keeps the
// objects of its last good version, and the problem names the file and the line. What two files both have counts in
// the first of them by path.
//
// A file that is gone takes its objects with it once nothing has changed for a while, so that a folder whose whole
// content is replaced, which no file system does at once, never lacks what it has before and after. A folder that is
// gone, or holds no manifest at all, takes nothing with it: that is rather a disk that is not there, or the middle of
// such a change.
//
// Documents of other kinds are passed over. A Pod needs status.podIP, and a Service spec.clusterIP: there is nobody
// else to choose them.
type Folder struct {
	options FolderOptions
	watcher *fsnotify.Watcher
	path    string // of Dir, absolute

	// Owned by Run.
	watched  map[string]bool // for what is in them; the folder that Dir is in is also watched, for Dir's own return
	files    map[string]*file
	unkept   map[string][]byte // good content that is not in the state folder yet
	held     map[subject]model.Event
	problems []policy.Problem
	partial  bool      // some part of the folder could not be looked at
	scanned  bool      // once at least
	changed  time.Time // when the last change was told of
	absent   time.Time // when to look again for files that are missing; zero if none are
}

var _ Source = (*Folder)(nil)

const (
	// settle is how long a folder must be quiet before it is read: a file is often written in several pieces, and each
	// of them may look whole.
	settle = 40 * time.Millisecond
	// patience is how long reading is put off at most while the folder is never quiet.
	patience = 300 * time.Millisecond
	// recheck is for file systems that do not tell of changes, such as network shares.
	recheck = 10 * time.Second
	// absence is how long a folder must be quiet before a file that is missing is taken for gone.
	absence = 500 * time.Millisecond
	// lastWrites is how long Run goes on at its end with keeping what is good.
	lastWrites = time.Second
)

// NewFolder prepares to read a folder; nothing is read before Run.
func NewFolder(o FolderOptions) *Folder {
	o.Dir = filepath.Clean(o.Dir)
	return &Folder{options: o, files: map[string]*file{}, unkept: map[string][]byte{}, held: map[subject]model.Event{}}
}

// Run reads the folder and watches it until ctx ends. It fails if there is no such folder, or it cannot be watched.
// Call it once.
func (f *Folder) Run(ctx context.Context, out func([]model.Event)) error {
	if err := f.open(); err != nil {
		return err
	}
	defer f.watcher.Close()
	start := time.Now()
	f.deliver(append(f.scan(start), model.Event{Synced: true}), start, out)
	f.sweep()

	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	var quiet <-chan time.Time // nil while nothing has changed
	var gone <-chan time.Time  // nil while no file is missing
	var first time.Time        // when the first change came that was not read yet
	for {
		select {
		case <-ctx.Done():
			f.keepAll(lastWrites)
			return nil
		case <-f.toKeep(): // one at a time, between what matters: a disk may take its time
			f.keepOne()
			continue
		case e := <-f.watcher.Events:
			if !f.concerns(e.Name) {
				continue
			}
			f.changed = time.Now()
			if quiet == nil {
				first = f.changed
			}
			if time.Since(first) < patience-settle || quiet == nil {
				quiet = time.After(settle)
			}
			continue
		case err := <-f.watcher.Errors: // lost events: look at everything, as always
			f.options.Log.Debug().Err(err).Msg("changes of the folder may have been missed; reading it")
			first = time.Now()
		case <-ticker.C:
			if quiet != nil {
				continue
			}
			first = time.Now()
		case <-gone:
			if quiet != nil {
				continue
			}
			first = time.Now()
		case <-quiet:
		}
		quiet, gone = nil, nil
		f.deliver(f.scan(time.Now()), first, out)
		if !f.absent.IsZero() {
			gone = time.After(time.Until(f.absent))
		}
	}
}

func (f *Folder) open() error {
	info, err := os.Stat(f.options.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no folder")
	}
	if err == nil {
		f.path, err = filepath.Abs(f.options.Dir)
	}
	if err != nil {
		return fmt.Errorf("read the manifests in %s: %w; name an existing folder", f.options.Dir, err)
	}
	if f.watcher, err = fsnotify.NewWatcher(); err != nil {
		return fmt.Errorf("watch %s: %w; fs.inotify.max_user_instances may be too low", f.options.Dir, err)
	}
	if err := f.watcher.Add(filepath.Dir(f.path)); err != nil {
		return errors.Join(fmt.Errorf("watch the folder around %s: %w", f.options.Dir, err), f.watcher.Close())
	}
	return nil
}

// concerns says whether a change may be about the folder, and not about what lies beside it.
func (f *Folder) concerns(path string) bool {
	in := filepath.Dir(path)
	return f.watched[in] || in != filepath.Dir(f.path) || path == f.path
}

func (f *Folder) deliver(events []model.Event, since time.Time, out func([]model.Event)) {
	if len(events) == 0 {
		return
	}
	if f.options.Observe != nil {
		f.options.Observe(Delivery{Events: len(events), Waited: time.Since(since)})
	}
	out(events)
}

// scan reads what has changed and gives the events of it.
func (f *Folder) scan(now time.Time) []model.Event {
	t := walk(f.options.Dir, f.watcher.Add)
	f.watched = t.watched
	for _, folder := range f.watcher.WatchList() {
		if !t.watched[folder] && folder != filepath.Dir(f.path) {
			_ = f.watcher.Remove(folder) // fails only if the folder's end has ended the watch already
		}
	}
	if len(t.files) == 0 && !f.scanned {
		f.recallAll()
	}
	f.scanned = true
	switch {
	case len(t.files) > 0 || len(t.errs) > 0:
	case len(t.visited) == 0:
		t.fail(t.root, errors.New("the folder is gone"))
	case len(f.files) > 0:
		t.fail(t.root, errors.New("the folder holds no manifests, not even one with a comment alone"))
	}
	f.partial = len(t.unseen) > 0
	var problems []policy.Problem
	for _, err := range t.errs {
		problems = append(problems, policy.Problem{Code: codeUnreadable, Severity: policy.Error, File: f.options.Dir, Line: 1, Column: 1,
			Message: err.Error(), Hint: "what was read there before stays"})
	}
	for _, path := range t.files {
		f.read(path)
	}
	f.miss(t, now)
	facts, twice := f.facts()
	for _, path := range slices.Sorted(maps.Keys(f.files)) {
		problems = append(problems, f.files[path].problems...)
	}
	f.report(append(problems, twice...))
	return f.replace(facts)
}

// miss looks for files that are not there any more, and forgets those for which that has been so long enough.
func (f *Folder) miss(t *tree, now time.Time) {
	f.absent = time.Time{}
	for path, known := range f.files {
		if _, there := slices.BinarySearch(t.files, path); there || t.mayHold(path) {
			known.missed = time.Time{}
			continue
		}
		if known.missed.IsZero() {
			known.missed = now
		}
		due := known.missed.Add(absence)
		if quiet := f.changed.Add(absence); quiet.After(due) {
			due = quiet
		}
		if limit := known.missed.Add(recheck); limit.Before(due) {
			due = limit // a folder that is never quiet
		}
		switch {
		case !now.Before(due):
			f.forget(path)
		case f.absent.IsZero() || due.Before(f.absent):
			f.absent = due
		}
	}
}

// byPresence gives the paths of all files, those that are missing last: what was moved to another file counts there.
func (f *Folder) byPresence() []string {
	paths := slices.Sorted(maps.Keys(f.files))
	slices.SortStableFunc(paths, func(a, b string) int {
		return cmp.Compare(f.files[a].presence(), f.files[b].presence())
	})
	return paths
}

// facts joins the objects of all files.
func (f *Folder) facts() (facts []model.Event, twice []policy.Problem) {
	type place struct {
		file string
		line int
	}
	first := map[subject]place{}
	for _, path := range f.byPresence() {
		for _, o := range f.files[path].objects {
			s := subjectOf(o.event)
			at, there := first[s]
			if there && !f.files[path].missed.IsZero() {
				continue
			}
			if there {
				twice = append(twice, policy.Problem{Code: codeTwice, Severity: policy.Warning, File: path, Line: o.line, Column: 1,
					Message: fmt.Sprintf("%s stands at %s:%d too, which is what counts", s, at.file, at.line), Hint: "remove one of them"})
				continue
			}
			first[s] = place{path, o.line}
			facts = append(facts, o.event)
		}
	}
	return facts, twice
}

// replace gives the events by which facts take the place of those held.
func (f *Folder) replace(facts []model.Event) []model.Event {
	var events []model.Event
	now := make(map[subject]model.Event, len(facts))
	for _, e := range facts {
		s := subjectOf(e)
		now[s] = e
		if !reflect.DeepEqual(f.held[s], e) {
			events = append(events, e)
		}
	}
	for s, e := range f.held {
		if _, still := now[s]; !still {
			events = append(events, gone(e))
		}
	}
	f.held = now
	return events
}

// report tells of problems when they change: each new one in the log, and all that there are to those who asked.
func (f *Folder) report(problems []policy.Problem) {
	if slices.Equal(problems, f.problems) {
		return
	}
	for _, p := range problems {
		if slices.Contains(f.problems, p) {
			continue
		}
		log := f.options.Log.Error()
		if p.Severity == policy.Warning {
			log = f.options.Log.Warn()
		}
		log.Str("file", p.File).Int("line", p.Line).Stringer("code", p.Code).Msg(p.String())
	}
	if len(problems) == 0 {
		f.options.Log.Info().Str("folder", f.options.Dir).Msg("manifests are good again")
	}
	f.problems = problems
	if f.options.Problems != nil {
		f.options.Problems(slices.Clone(problems))
	}
}

// name is how a file is called in the state folder's index: by its path in the folder.
func (f *Folder) name(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, f.options.Dir), string(filepath.Separator))
}
