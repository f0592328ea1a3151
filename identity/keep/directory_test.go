package keep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/identity"
)

func TestTheFirstStartMakesACAAndTheNextOnesLoadIt(t *testing.T) {
	dir := newDir(t)
	k := startIn(t, dir, nil)
	first := k.ready()
	k.stop()
	again := startIn(t, dir, nil)
	if got := again.ready(); got != first {
		t.Errorf("the CA is %s after a restart, and was %s", got, first)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, caFile: 0o600, trustFile: 0o600} {
		if info := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, name))); info.Mode().Perm() != want {
			t.Errorf("%q has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
	left := must[[]string](t)(filepath.Glob(filepath.Join(dir, ".new-*")))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestADirectoryBelongsToOneProcess(t *testing.T) {
	dir := newDir(t)
	startIn(t, dir, nil).ready()
	second := must[*Keeper](t)(InDirectory(options(t, nil), dir))
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

func TestADeletedCAIsNeverReplacedAndIsUsedAgainWhenItIsBack(t *testing.T) {
	dir := newDir(t)
	k := startIn(t, dir, nil)
	first := k.ready()
	backup := must[[]byte](t)(os.ReadFile(filepath.Join(dir, caFile)))
	do(t, os.Remove(filepath.Join(dir, caFile)))
	k.wantFault(Missing)
	if _, _, err := k.Bundle(); err != nil {
		t.Errorf("peers cannot be verified any more: %v", err)
	}
	k.stop()
	k = startIn(t, dir, nil)
	k.wantFault(Missing)
	if _, err := k.Issuer(); CodeOf(err) != Missing {
		t.Errorf("after a restart somebody signs, or %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, caFile)); err == nil {
		t.Error("there is a new CA")
	}
	do(t, os.WriteFile(filepath.Join(dir, caFile), backup, 0o600))
	if got := k.ready(); got != first {
		t.Errorf("the CA is %s after it was restored, and was %s", got, first)
	}
}

func TestACAThatCannotBeTheRightOneSignsNothing(t *testing.T) {
	otherDir := newDir(t)
	other := startIn(t, otherDir, nil)
	other.ready()
	other.stop()
	foreign := must[[]byte](t)(os.ReadFile(filepath.Join(otherDir, caFile)))
	for name, c := range map[string]struct {
		damage func(good []byte) []byte
		want   Code
	}{
		"empty":            {func([]byte) []byte { return nil }, Corrupt},
		"cut off":          {func(b []byte) []byte { return b[:len(b)/2] }, Corrupt},
		"a later version":  {func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1) }, Corrupt},
		"an unknown field": {func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":1,"x":1`), 1) }, Corrupt},
		"a damaged key": {func(b []byte) []byte {
			return bytes.Replace(b, []byte(`PRIVATE KEY-----\n`), []byte(`PRIVATE KEY-----\nAAAA`), 1)
		}, Corrupt},
		"no authority":  {func(b []byte) []byte { return []byte(`{"version":1,"state":{},"authorities":{}}`) }, Corrupt},
		"another state": {func(b []byte) []byte { return bytes.Replace(b, []byte(`"steady"`), []byte(`"signing"`), 1) }, Corrupt},
		"another CA's":  {func([]byte) []byte { return foreign }, Mismatch},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			k := startIn(t, dir, nil)
			first := k.ready()
			path := filepath.Join(dir, caFile)
			good := must[[]byte](t)(os.ReadFile(path))
			do(t, os.WriteFile(path, c.damage(bytes.Clone(good)), 0o600))
			k.wantFault(c.want)
			if err := k.Ready(); strings.Contains(err.Error(), "PRIVATE") || strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the fault holds some of the CA: %v", err)
			}
			do(t, os.WriteFile(path, good, 0o600))
			if got := k.ready(); got != first {
				t.Errorf("the CA is %s after it was restored, and was %s", got, first)
			}
		})
	}
}

func TestKeysThatOthersCanReadAreRefused(t *testing.T) {
	dir := newDir(t)
	k := startIn(t, dir, nil)
	k.ready()
	do(t, os.Chmod(filepath.Join(dir, caFile), 0o640))
	k.wantFault(Exposed)
	do(t, os.Chmod(filepath.Join(dir, caFile), 0o600))
	k.ready()
	k.stop()
	do(t, os.Chmod(dir, 0o750))
	if _, err := InDirectory(options(t, nil), dir); CodeOf(err) != Exposed {
		t.Errorf("a directory that the group can read: %v", err)
	}
}

func TestAProcessThatHasSeenTheCAMakesNoOtherEvenIfEverythingIsDeleted(t *testing.T) {
	dir := newDir(t)
	k := startIn(t, dir, nil)
	k.ready()
	do(t, errors.Join(os.Remove(filepath.Join(dir, caFile)), os.Remove(filepath.Join(dir, trustFile))))
	k.wantFault(Missing)
	k.Wake()
	if _, err := os.Stat(filepath.Join(dir, caFile)); err == nil {
		t.Error("there is a new CA")
	}
}

func TestACAIsGivenUpOnlyOnPurpose(t *testing.T) {
	dir := newDir(t)
	k := startIn(t, dir, nil)
	first := k.ready()
	if err := k.Recover(t.Context()); err == nil || !strings.Contains(err.Error(), "delete it first") {
		t.Errorf("a CA that is there was given up: %v", err)
	}
	do(t, os.Remove(filepath.Join(dir, caFile)))
	k.wantFault(Missing)
	do(t, k.Recover(t.Context()))
	if got := k.ready(); got == first {
		t.Error("the old CA signs")
	}
}

func TestARotationGoesOnWithEachReportAndOverARestartInEachPhase(t *testing.T) {
	dir, p := newDir(t), &proxies{}
	k := startIn(t, dir, p)
	old := k.ready()
	restart := func() {
		k.stop()
		k = startIn(t, dir, p)
		k.ready()
	}
	has := func(bundle, authority string) {
		p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: bundle, Authority: authority, Issued: authority, LeafExpires: time.Now().Add(time.Hour)})
	}
	has(k.Progress().Generation, old)
	_, changed, err := k.Bundle()
	do(t, err)
	do(t, k.Rotate(t.Context(), nil))
	<-changed

	at := k.phase(identity.Introducing)
	if at.Signer != old || len(at.Authority) != 2 {
		t.Errorf("introducing: %+v", at)
	}
	if err := k.Rotate(t.Context(), nil); identity.CodeOf(err) != identity.CodeRotationRefused {
		t.Errorf("a second rotation began: %v", err)
	}
	eventually(t, "it says whom it waits for", func() bool {
		w := k.Progress().Waits
		return len(w) == 1 && strings.Contains(w[0], "shop/web-1")
	})
	restart()
	both, next := k.phase(identity.Introducing).Generation, k.Progress().Successor

	has(both, old)
	if at := k.phase(identity.Signing); at.Signer != next || at.Generation != both {
		t.Errorf("signing: %+v", at)
	}
	restart()
	issuer := must[identity.Issuer](t)(k.Issuer())
	if a, ok := issuer.(*identity.Authority); !ok || a.Name() != next {
		t.Errorf("%v signs", issuer)
	}

	has(both, next)
	at = k.phase(identity.Retiring)
	if len(at.Authority) != 1 || at.Authority[0] != next {
		t.Errorf("retiring: %+v", at)
	}
	restart()

	has(at.Generation, next)
	if at := k.phase(identity.Steady); at.Signer != next {
		t.Errorf("steady: %+v", at)
	}
	restart()
	if text := must[[]byte](t)(os.ReadFile(filepath.Join(dir, caFile))); bytes.Contains(text, []byte(old)) {
		t.Error("the old authority, with its keys, is still stored")
	}
}

func TestARotationIsTurnedBack(t *testing.T) {
	p := &proxies{}
	p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: "none", LeafExpires: time.Now().Add(time.Hour)})
	k := startIn(t, newDir(t), p)
	old := k.ready()
	before := k.Progress().Generation
	do(t, k.Rotate(t.Context(), nil))
	k.phase(identity.Introducing)
	do(t, k.Abort(t.Context()))
	if at := k.phase(identity.Steady); at.Signer != old || at.Generation != before {
		t.Errorf("%+v", at)
	}
}

func TestAGivenIntermediateSignsAndIsMovedToLikeAnyOther(t *testing.T) {
	given := newRoot(t)
	o := options(t, &proxies{})
	o.First = func(time.Time) (*identity.Authority, error) { return given, nil }
	k := start(t, must[*Keeper](t)(InDirectory(o, newDir(t))))
	if got := k.ready(); got != given.Name() {
		t.Errorf("%s signs", got)
	}
	other := newRoot(t)
	do(t, k.Rotate(t.Context(), other))
	eventually(t, "the other one signs", func() bool {
		at := k.Progress()
		return at.Phase == identity.Steady && at.Signer == other.Name()
	})
}

func TestEveryChangeOfTheBundleGivesItAGreaterNumber(t *testing.T) {
	dir, p := newDir(t), &proxies{}
	p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: "none", LeafExpires: time.Now().Add(time.Hour)})
	k := startIn(t, dir, p)
	number := func() uint64 {
		t.Helper()
		k.ready()
		b, _, err := k.Bundle()
		do(t, err)
		n, _ := b.SequenceNumber()
		if text := must[[]byte](t)(identity.MarshalBundle(b)); !bytes.Contains(text, fmt.Appendf(nil, `"spiffe_sequence":%d`, n)) {
			t.Errorf("what is served has no number: %s", text)
		}
		eventually(t, "the bundle is written", func() bool {
			return bytes.Contains(must[[]byte](t)(os.ReadFile(filepath.Join(dir, trustFile))), fmt.Appendf(nil, `"spiffe_sequence":%d`, n))
		})
		return n
	}
	first := number()
	do(t, k.Rotate(t.Context(), nil))
	k.phase(identity.Introducing)
	second := number()
	k.stop()
	k = startIn(t, dir, p)
	if again := number(); again != second {
		t.Errorf("another process gives it number %d, and it had %d", again, second)
	}
	do(t, k.Abort(t.Context()))
	k.phase(identity.Steady)
	if third := number(); first == 0 || second <= first || third <= second {
		t.Errorf("numbers %d, %d, %d", first, second, third)
	}
}

func TestACAOfBeforeBundlesHadNumbersIsReadAndNumbersGrow(t *testing.T) {
	a, now := newRoot(t), time.Now()
	c := must[*ca](t)(first(a, now))
	var d document
	do(t, json.Unmarshal(must[[]byte](t)(c.encode()), &d))
	d.Sequence = 0
	text := must[[]byte](t)(json.Marshal(d))
	if bytes.Contains(text, []byte("sequence")) {
		t.Fatalf("%s", text)
	}
	old := must[*ca](t)(decode(domain(t), text, now))
	if n, ok := old.bundle.SequenceNumber(); n != 1 || !ok || identity.Fingerprint(old.bundle) != c.state.Bundle() {
		t.Errorf("number %d, %v", n, ok)
	}
	if n := numberAfter(1, identity.State{}); n != 2 {
		t.Errorf("by a clock that stands at nothing, 1 is followed by %d", n)
	}
}

// A writer may die after it stored a step and before it wrote the bundle.
func TestAWriterThatDiedBetweenItsTwoWritesIsSucceeded(t *testing.T) {
	dir, p := newDir(t), &proxies{}
	k := startIn(t, dir, p)
	k.ready()
	trustBefore := must[[]byte](t)(os.ReadFile(filepath.Join(dir, trustFile)))
	p.set(identity.ProxyObservation{Name: "shop/web-1", Taken: "none", LeafExpires: time.Now().Add(time.Hour)})
	do(t, k.Rotate(t.Context(), nil))
	both := k.phase(identity.Introducing).Generation
	k.stop()
	do(t, os.WriteFile(filepath.Join(dir, trustFile), trustBefore, 0o600))

	k = startIn(t, dir, p)
	k.phase(identity.Introducing)
	bundle, _, err := k.Bundle()
	do(t, err)
	if got := identity.Fingerprint(bundle); got != both {
		t.Errorf("serves %s, want %s", got, both)
	}
	eventually(t, "the bundle is written", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, trustFile))
		return err == nil && bytes.Contains(b, []byte(both))
	})
	text := must[[]byte](t)(os.ReadFile(filepath.Join(dir, trustFile)))
	if bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the bundle holds a key")
	}
}
