package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

func noon() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

func TestTimesToLookAheadToAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                          noon(),
		"+45d":                      noon().Add(45 * 24 * time.Hour),
		"+12h":                      noon().Add(12 * time.Hour),
		"+1d12h":                    noon().Add(36 * time.Hour),
		"+90m":                      noon().Add(90 * time.Minute),
		"2027-01-31":                time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		"2027-01-31T06:00:00Z":      time.Date(2027, 1, 31, 6, 0, 0, 0, time.UTC),
		"2027-01-31T06:00:00+02:00": time.Date(2027, 1, 31, 4, 0, 0, 0, time.UTC),
	} {
		if got, err := parseAt(text, noon()); err != nil || !got.Equal(want) {
			t.Errorf("%q is read as %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"45d", "+", "+d", "+45", "+-1d", "+1d-2h", "+1d+2h", "+-2h", "+d12h", "+99999999d", "tomorrow", "2027-13-01", "+1w"} {
		if got, err := parseAt(text, noon()); err == nil || !strings.Contains(err.Error(), "want +45d") {
			t.Errorf("%q is read as %s, %v; want an error that says what to write", text, got, err)
		}
	}
}

func anchor(name string, days int) service.Anchor {
	return service.Anchor{
		Name: name, Subject: "CN=" + name, Algorithm: "ECDSA P-256", NotBefore: noon(), NotAfter: noon().Add(time.Duration(days) * 24 * time.Hour),
	}
}

// town has a given issuer of 30 days below an anchor of 100, a connected sidecar and one that is away.
func town() facts {
	leaf := noon().Add(23 * time.Hour)
	root, issuer := anchor("root", 100), anchor("issuer", 30)
	return facts{
		Facts: service.Facts{
			TrustDomain: "cluster.local", Fingerprint: "bundle", Anchors: []service.Anchor{root},
			Issuers:      []service.Issuer{{Anchor: issuer, Signs: true, Given: true, Expires: issuer.NotAfter, Anchors: []string{"root"}}},
			ControlPlane: []service.Leaf{{ID: "spiffe://cluster.local/ns/heddle-system/sa/heddle", Authority: "issuer", NotAfter: leaf}},
			Sidecars: []service.Sidecar{
				{ID: "spiffe://cluster.local/ns/shop/sa/web", Namespace: "shop", Account: "web", Pod: "web-1", Authority: "issuer", NotAfter: leaf, Taken: "bundle", Connected: true},
				{ID: "spiffe://cluster.local/ns/shop/sa/web", Namespace: "shop", Account: "web", Pod: "web-2", Authority: "issuer", NotAfter: leaf, Taken: "older"},
			},
		},
		Rotation: keep.Progress{Phase: identity.Steady, Since: noon(), Signer: "issuer", Leading: true},
	}
}

func TestWhatIsRenewedByItselfIsJudgedByWhetherItCanBe(t *testing.T) {
	for name, c := range map[string]struct {
		ahead   time.Duration
		change  func(*facts)
		want    map[string]state
		expired int
	}{
		"now": {0, nil, map[string]state{
			"root": valid, "issuer": valid, "heddle": valid, "shop/web-1": valid, "shop/web-2": valid,
		}, 0},
		"tomorrow leaves are other ones": {24 * time.Hour, nil, map[string]state{
			"root": valid, "issuer": valid, "heddle": renewed, "shop/web-1": renewed, "shop/web-2": awaited,
		}, 0},
		"without the issuer nobody renews them": {31 * 24 * time.Hour, nil, map[string]state{
			"root": valid, "issuer": expired, "heddle": unrenewed, "shop/web-1": unrenewed, "shop/web-2": unrenewed,
		}, 4},
		"nor does a CA that does not sign": {24 * time.Hour, func(f *facts) { f.Rotation.Fault = "gone" }, map[string]state{
			"root": valid, "issuer": valid, "heddle": unrenewed, "shop/web-1": unrenewed, "shop/web-2": unrenewed,
		}, 3},
		"a rotation removes what expires": {101 * 24 * time.Hour, func(f *facts) {
			f.Rotation.Phase, f.Rotation.Successor = identity.Introducing, "next"
			f.Anchors = append(f.Anchors, anchor("next", 3000))
			f.Issuers = append(f.Issuers, service.Issuer{Anchor: anchor("next", 3000), Expires: noon().Add(3000 * 24 * time.Hour), Anchors: []string{"next"}})
		}, map[string]state{
			"root": rotated, "issuer": rotated, "next": valid, "heddle": renewed, "shop/web-1": renewed, "shop/web-2": awaited,
		}, 0},
		"a leaf of a CA that was given up": {0, func(f *facts) { f.Sidecars[0].Authority = "lost" }, map[string]state{
			"root": valid, "issuer": valid, "heddle": valid, "shop/web-1": untrusted, "shop/web-2": valid,
		}, 1},
	} {
		have := town()
		if c.change != nil {
			c.change(&have)
		}
		r := judge(have, noon(), noon().Add(c.ahead))
		got := map[string]state{}
		for key, s := range r.States {
			got[strings.TrimPrefix(key, "spiffe://cluster.local/ns/heddle-system/sa/")] = s
		}
		if diff := cmp.Diff(c.want, got); diff != "" || r.Expired != c.expired {
			t.Errorf("%s: %d are marked, want %d (-want +got):\n%s", name, r.Expired, c.expired, diff)
		}
	}
}

func TestIdentitiesFitATerminal(t *testing.T) {
	r := judge(town(), noon(), noon().Add(31*24*time.Hour))
	for width, wide := range map[int]bool{80: false, wideWidth: true} {
		text := r.table(wide)
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
				t.Errorf("a line has %d characters, more than %d: %s", n, width, line)
			}
		}
		for _, want := range []string{"root", "issuer", "given, signs", "shop/web-1", "× not renewed", "current", "older"} {
			if !strings.Contains(text, want) {
				t.Errorf("at %d characters there is no %q:\n%s", width, want, text)
			}
		}
	}
}

func TestTheLastLinesSayWhatToDoAboutWhatIsMarked(t *testing.T) {
	rotate := "heddle identity rotate --help"
	for name, c := range map[string]struct {
		ahead   time.Duration
		change  func(*facts)
		want    string
		without string
	}{
		"nothing":                  {0, func(*facts) {}, "", "×"},
		"an issuer has expired":    {31 * 24 * time.Hour, func(*facts) {}, "1 × expired: anchors and issuers are not renewed by themselves:\n" + rotate, "untrusted"},
		"and so have its leaves":   {31 * 24 * time.Hour, func(*facts) {}, "3 × not renewed, since the issuer will have expired:\n" + rotate, "Recovering"},
		"nothing is signed":        {24 * time.Hour, func(f *facts) { f.Rotation.Fault = "gone" }, "3 × not renewed, since nothing is signed: docs/identity.md, Recovering\n", rotate},
		"a leaf of a CA given up":  {0, func(f *facts) { f.Sidecars[0].Authority = "lost" }, "1 × untrusted, by a CA that was given up. It passes by itself: wait, or restart\nthose sidecars", rotate},
		"that, and it has expired": {0, func(f *facts) { f.Sidecars[0].Authority, f.Sidecars[0].NotAfter = "lost", noon() }, "1 × untrusted", rotate},
	} {
		have := town()
		c.change(&have)
		text := judge(have, noon(), noon().Add(c.ahead)).table(false)
		if !strings.Contains(text, c.want) || strings.Contains(text, c.without) {
			t.Errorf("%s: want %q and not %q in\n%s", name, c.want, c.without, text)
		}
	}
}

func TestIdentityFailsIfNothingIsSignedOrAnythingIsMarked(t *testing.T) {
	for name, c := range map[string]struct {
		at     string
		change func(*facts)
		fails  bool
	}{
		"all is well":        {"", func(*facts) {}, false},
		"nothing is signed":  {"", func(f *facts) { f.Rotation.Fault = "the CA is gone" }, true},
		"a leaf untrusted":   {"", func(f *facts) { f.Sidecars[0].Authority = "lost" }, true},
		"an issuer expires":  {"+31d", func(*facts) {}, true},
		"leaves are renewed": {"+2d", func(*facts) {}, false},
	} {
		have := town()
		c.change(&have)
		mux := http.NewServeMux()
		mux.HandleFunc("GET "+operator.IdentityPath, func(w http.ResponseWriter, _ *http.Request) {
			if err := json.NewEncoder(w).Encode(have); err != nil {
				t.Error(err)
			}
		})
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(mux)
		_ = s.Listener.Close() // its own
		s.Listener = l
		s.Start()
		for _, output := range []string{"table", "json"} {
			f := identityFlags{socket: socket, at: c.at, output: output}
			if err := f.show(t.Context(), io.Discard, noon()); (err != nil) != c.fails || err != nil && !errors.Is(err, errSilent) {
				t.Errorf("%s, as %s: %v", name, output, err)
			}
		}
		s.Close()
	}
}

func TestARotationIsFollowedToItsEnd(t *testing.T) {
	phases := []keep.Progress{
		{Phase: identity.Introducing, Signer: "old", Waits: []string{"waiting for proxies: 2"}},
		{Phase: identity.Introducing, Signer: "old", Waits: []string{"waiting for proxies: 2"}},
		{Phase: identity.Introducing, Signer: "old", Waits: []string{"waiting for proxies: 1"}},
		{Phase: identity.Signing, Signer: "new"},
		{Phase: identity.Retiring, Signer: "new"},
		{Phase: identity.Steady, Signer: "new", Since: noon()},
	}
	want := `introducing: old signs
  waiting for proxies: 2
introducing: old signs
  waiting for proxies: 1
signing: new signs
retiring: new signs
steady: new signs and alone is trusted
`
	for _, c := range []struct {
		before, want string
		fails        string
	}{{"old", want, ""}, {"new", want, "turned back"}} { // the second: whoever began it had "new" before
		ticks := make(chan time.Time, len(phases)+1)
		before := keep.Progress{Phase: identity.Steady, Signer: c.before}
		left := append([]keep.Progress{before}, phases...) // it is stored, and the control plane has not read it yet
		var out strings.Builder
		err := follow(t.Context(), before, &out, ticks, func(context.Context) (facts, error) {
			f := facts{Rotation: left[0]}
			left = left[1:]
			ticks <- noon()
			return f, nil
		})
		if diff := cmp.Diff(c.want, out.String()); diff != "" {
			t.Errorf("it prints (-want +got):\n%s", diff)
		}
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("it ends with %v, want %q", err, c.fails)
		}
	}
}

func TestTheAgentIsFoundBesideHeddleAndElseOnThePath(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "heddle")
	if err := os.WriteFile(self, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	where := func() (string, error) { return self, nil }
	none := func(string) (string, error) { return "", fs.ErrNotExist }
	if _, err := findSidecar(where, none); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without it: %v; want an error that says how to get it", err)
	}
	if got, err := findSidecar(where, func(string) (string, error) { return "/usr/bin/heddle-sidecar", nil }); err != nil || got != "/usr/bin/heddle-sidecar" {
		t.Errorf("on the path it is found as %q, %v", got, err)
	}
	beside := filepath.Join(dir, "heddle-sidecar")
	if err := os.WriteFile(beside, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := findSidecar(where, none); err != nil || got != beside {
		t.Errorf("beside heddle it is found as %q, %v", got, err)
	}
	if _, err := findSidecar(func() (string, error) { return "", errors.New("no /proc") }, none); err == nil {
		t.Error("without knowing where heddle is, something was found")
	}
}

func TestNamespacesWithoutTheBundleAreShown(t *testing.T) {
	var b strings.Builder
	r := identityReport{facts: facts{Rotation: keep.Progress{Phase: identity.Steady, Leading: true, Uncopied: []keep.Uncopied{{Namespace: "bank", Error: "it is immutable"}}}}}
	r.writeRotation(&b)
	if !strings.Contains(b.String(), "namespace bank: what starts there waits: it is immutable") {
		t.Errorf("got:\n%s", &b)
	}
}
