package service

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

// roll is who an API server knows.
type roll struct {
	pods    map[string]attest.Pod // by namespace/name
	started []attest.PodName
	unknown bool
}

func (r roll) Pod(namespace, name string) (attest.Pod, bool) {
	p, ok := r.pods[namespace+"/"+name]
	return p, ok
}

func (r roll) Started() ([]attest.PodName, bool) { return r.started, !r.unknown }

// at is a time of these tests, in seconds.
func at(s int) time.Time { return time.Unix(1_800_000_000+int64(s), 0).UTC() }

type moving struct{ now time.Time }

func (m *moving) Now() time.Time { return m.now }

func web(pod string) identity.Workload {
	return identity.Workload{Namespace: "shop", Account: "web", Pod: pod, PodUID: "uid-" + pod}
}

func byName(a, b identity.ProxyObservation) bool { return a.Name < b.Name }

func TestARotationHearsOfWhoUsesWhatAndWhoIsSilent(t *testing.T) {
	clock := &moving{at(0)}
	c := NewConnected(clock.Now)
	old, next := leaf{"one", "01", "old", at(3600)}, leaf{"two", "02", "new", at(7200)}
	end, renewed := c.poll(web("a"), old, uses{"bundle-1", "one"})
	end()
	clock.now = at(10)
	c.renewed(web("a"), next) // it is on its way
	select {
	case <-renewed:
	default:
		t.Error("who waits does not hear that it has a new leaf to show")
	}
	c.began(web("b"), old, "bundle-1") // its first
	clock.now = at(20)
	c.poll(web("c"), next, uses{}) // it did not say
	c.poll(web("d"), next, uses{"bundle-2", "one"})
	c.poll(web("e"), next, uses{"bundle-2", "two"})
	c.renewed(web("f"), next) // of a signer that was restarted: it has another in use
	r := roll{pods: map[string]attest.Pod{}}
	for _, pod := range []string{"a", "b", "c", "d", "e", "f", "silent"} {
		r.pods["shop/"+pod] = attest.Pod{UID: "uid-" + pod}
		r.started = append(r.started, attest.PodName{Namespace: "shop", Name: pod, UID: "uid-" + pod})
	}
	c.began(web("deleted"), old, "bundle-1")
	c.began(identity.Workload{Namespace: "shop", Account: "web", Pod: "b", PodUID: "uid-earlier"}, old, "bundle-1")

	got := c.Observe(r, at(30), at(-5))
	want := []identity.ProxyObservation{
		{Name: "shop/a", LastSeen: at(10), Reported: at(0), Taken: "bundle-1", Issued: "new", LeafExpires: at(7200)},
		{Name: "shop/b", LastSeen: at(10), Reported: at(10), Taken: "bundle-1", Authority: "old", Issued: "old", LeafExpires: at(3600)},
		{Name: "shop/c", LastSeen: at(30), Reported: at(20), LeafExpires: at(7200)},
		{Name: "shop/d", LastSeen: at(30), Reported: at(20), Taken: "bundle-2", LeafExpires: at(7200)},
		{Name: "shop/e", LastSeen: at(30), Reported: at(20), Taken: "bundle-2", Authority: "new", LeafExpires: at(7200)},
		{Name: "shop/f", LastSeen: at(20), Issued: "new", LeafExpires: at(7200)},
		{Name: "shop/silent", LastSeen: at(-5)},
	}
	if diff := cmp.Diff(want, got.Proxies, cmpopts.SortSlices(byName)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.Remembers.IsZero() || got.Remembers.After(at(-1_000_000)) {
		t.Errorf("with a roll nobody is forgotten, but it remembers since %v", got.Remembers)
	}
}

// What goes with a leaf is not seen in a report, so it counts until the next one.
func TestACertificateThatGoesWithALeafCountsAsIssuedLast(t *testing.T) {
	clock := &moving{at(0)}
	c := NewConnected(clock.Now)
	old, next := leaf{"one", "01", "old", at(3600)}, leaf{"two", "02", "new", at(3700)}
	observed := func() identity.ProxyObservation { return c.Observe(nil, at(30), at(-5)).Proxies[0] }
	c.began(web("a"), next, "bundle-2")
	c.alsoIssued(web("a"), leaf{"three", "03", "old", at(7200)})
	if got := observed(); got.Issued != "old" || !got.LeafExpires.Equal(at(7200)) || got.Authority != "new" {
		t.Errorf("%+v", got)
	}
	c.began(web("a"), next, "bundle-2")
	c.alsoIssued(web("a"), next)
	if got := observed(); got.Issued != "new" {
		t.Errorf("%+v", got)
	}

	c = NewConnected(clock.Now) // of a signer that was restarted in between
	c.alsoIssued(web("a"), old)
	if got := observed(); got.Taken != "" || !got.Reported.IsZero() {
		t.Errorf("who has reported nothing counts as one that has: %+v", got)
	}
}

func TestWhatWasSeenBeforeThisProcessServedDoesNotCount(t *testing.T) {
	clock := &moving{at(0)}
	c := NewConnected(clock.Now)
	c.began(web("a"), leaf{"one", "01", "old", at(3600)}, "bundle-1")
	r := roll{
		pods:    map[string]attest.Pod{"shop/a": {UID: "uid-a"}},
		started: []attest.PodName{{Namespace: "shop", Name: "a", UID: "uid-a"}},
	}
	got := c.Observe(r, at(30), at(20))
	if diff := cmp.Diff([]identity.ProxyObservation{{Name: "shop/a", LastSeen: at(20)}}, got.Proxies); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := c.Observe(nil, at(30), at(20)); len(got.Proxies) != 0 || got.Remembers != at(20) {
		t.Errorf("without a roll: %+v", got)
	}
	r.unknown = true
	if got := c.Observe(r, at(30), at(20)); !got.Remembers.IsZero() {
		t.Errorf("before the roll is known it claims to remember since %v", got.Remembers)
	}
}

func TestASidecarIsForgottenSomeTimeAfterItsLeaf(t *testing.T) {
	clock := &moving{at(0)}
	c := NewConnected(clock.Now)
	c.began(web("a"), leaf{"one", "01", "old", at(3600)}, "bundle-1")
	for second, want := range map[int]bool{0: true, 60: true, 91: false, 3600: false} {
		clock.now = at(second)
		if list := c.Sidecars(); len(list) != 1 || list[0].Connected != want {
			t.Errorf("after %d s: %+v", second, list)
		}
	}
	clock.now = at(3600 + 301)
	if list := c.Sidecars(); len(list) != 0 {
		t.Errorf("it is still known: %+v", list)
	}
}

func TestASidecarWaitsOnlySoManyTimes(t *testing.T) {
	c := NewConnected((&moving{at(0)}).Now)
	var ends []func()
	for range maxPolls {
		end, _ := c.poll(web("a"), leaf{"one", "01", "old", at(3600)}, uses{})
		ends = append(ends, end)
	}
	may := func(pod string) bool {
		end, _ := c.poll(web(pod), leaf{"one", "01", "old", at(3600)}, uses{})
		return end != nil
	}
	if may("a") {
		t.Error("it may wait once more")
	}
	if !may("b") {
		t.Error("another may not")
	}
	ends[0]()
	if !may("a") {
		t.Error("it may not after one has ended")
	}
}
