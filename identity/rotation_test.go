package identity

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Authorities one and two, and the fingerprints of what trusts them.
func one() Party { return Party{Authority: "one", Bundle: "b1"} }
func two() Party { return Party{Authority: "two", Bundle: "b2"} }

const bothBundles = "b12"

func limits() Limits {
	return Limits{Leaf: time.Hour, Token: 5 * time.Minute, Slack: time.Minute}
}

// noon is when the phase under test began.
func noon() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }

// in gives a state in a phase that began at noon.
func in(t testing.TB, phase Phase) State {
	s := must[State](t)(NewState(one(), noon()))
	if phase == Steady {
		return s
	}
	s = must[State](t)(s.Begin(two(), bothBundles, limits(), noon()))
	s.Phase = phase
	if err := s.Valid(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARotationGoesFromOneAuthorityToTheOther(t *testing.T) {
	s, now := in(t, Steady), noon()
	look := func(taken, authority string) Observation {
		now = now.Add(10 * time.Minute)
		return Observation{Now: now, Remembers: noon().Add(-24 * time.Hour), Published: now.Add(-1), Limits: limits(), Proxies: []ProxyObservation{
			{Name: "web-1", LastSeen: now, Reported: now, Taken: taken, Authority: authority, LeafExpires: now.Add(time.Hour)},
		}}
	}
	check := func(phase Phase, signer, bundle string, trusted ...string) {
		t.Helper()
		if s.Phase != phase || s.Signer() != signer || s.Bundle() != bundle || !slices.Equal(s.Trusted(), trusted) {
			t.Errorf("phase %s, %s signs, bundle %s trusts %v; want %s %s %s %v", s.Phase, s.Signer(), s.Bundle(), s.Trusted(), phase, signer, bundle, trusted)
		}
		if err := s.Valid(); err != nil {
			t.Error(err)
		}
	}
	step := func(o Observation, wait string) {
		t.Helper()
		var waits []Wait
		s, waits = s.Next(o)
		text := ""
		for _, w := range waits {
			text += w.String() + "; "
		}
		if (wait == "") != (text == "") || !strings.Contains(text, wait) {
			t.Errorf("in phase %s: %q, want %q", s.Phase, text, wait)
		}
	}

	check(Steady, "one", "b1", "one")
	step(look("b1", "one"), "")
	check(Steady, "one", "b1", "one")

	s = must[State](t)(s.Begin(two(), bothBundles, limits(), now))
	check(Introducing, "one", bothBundles, "one", "two")
	step(look("b1", "one"), "proxies to take the bundle b12: 1, among them web-1")
	check(Introducing, "one", bothBundles, "one", "two")
	step(look(bothBundles, "one"), "")
	check(Signing, "two", bothBundles, "one", "two")
	step(look(bothBundles, "one"), "leaves of authority one to be replaced or to expire: 1, among them web-1")
	step(look(bothBundles, "two"), "")
	check(Retiring, "two", "b2", "two")
	step(look(bothBundles, "two"), "proxies to take the bundle b2")
	step(look("b2", "two"), "")
	check(Steady, "two", "b2", "two")
	if diff := cmp.Diff(State{Phase: Steady, Current: two(), Entered: now}, s); diff != "" {
		t.Error(diff)
	}
}

// Each phase against each kind of proxy, at times around each limit. A leaf lives for an hour, slack is a minute.
func TestAPhaseEndsOnlyWhenWhatWasSeenAllowsIt(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon().Add(-d) }
	long := ago(24 * time.Hour)
	ready := ProxyObservation{Name: "ready", LastSeen: noon(), Reported: noon().Add(1), Taken: bothBundles, Authority: "two", LeafExpires: noon().Add(time.Hour)}
	retired := ready
	retired.Taken = "b2"
	with := func(p ProxyObservation, change func(*ProxyObservation)) ProxyObservation {
		p.Name = "late"
		change(&p)
		return p
	}
	all := []Phase{Introducing, Signing, Retiring}
	for name, c := range map[string]struct {
		phases    []Phase
		after     time.Duration // since the phase began
		remembers time.Time
		proxies   []ProxyObservation
		moves     bool
	}{
		"nobody, and that is known":            {all, 10 * time.Minute, long, nil, true},
		"nobody, and nothing is known":         {all, 10 * time.Minute, time.Time{}, nil, false},
		"nobody, and memory is short":          {all, 10 * time.Minute, noon(), nil, false},
		"memory one moment too short":          {all, 10 * time.Minute, noon().Add(10*time.Minute - 61*time.Minute + 1), nil, false},
		"memory just long enough":              {all, 10 * time.Minute, noon().Add(10*time.Minute - 61*time.Minute), nil, true},
		"both taken":                           {[]Phase{Introducing}, time.Minute, long, []ProxyObservation{ready}, true},
		"taken, and reported too early":        {[]Phase{Introducing}, time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Reported = noon() })}, false},
		"renewed, and shown too early":         {[]Phase{Signing}, 10 * time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Reported = noon() })}, false},
		"both taken, and memory is short":      {[]Phase{Introducing}, time.Minute, noon(), []ProxyObservation{ready}, false},
		"old bundle":                           {[]Phase{Introducing}, time.Minute, long, []ProxyObservation{ready, with(ready, func(p *ProxyObservation) { p.Taken = "b1" })}, false},
		"new bundle alone":                     {[]Phase{Introducing}, time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Taken = "b2" })}, false},
		"no bundle":                            {[]Phase{Introducing, Retiring}, time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Taken = "" })}, false},
		"never seen":                           {[]Phase{Introducing, Retiring}, 24 * time.Hour, time.Unix(0, 0), []ProxyObservation{{Name: "late"}}, false},
		"late, out of contact for long":        {[]Phase{Introducing, Retiring}, 61 * time.Minute, long, []ProxyObservation{{Name: "late", LastSeen: noon()}}, true},
		"late, out of contact not so long":     {[]Phase{Introducing, Retiring}, 61*time.Minute - 1, long, []ProxyObservation{{Name: "late", LastSeen: noon()}}, false},
		"late, out of contact, leaf lives":     {[]Phase{Introducing, Retiring}, 90 * time.Minute, long, []ProxyObservation{{Name: "late", LastSeen: noon(), LeafExpires: noon().Add(90 * time.Minute)}}, false},
		"late, out of contact, leaf over":      {[]Phase{Introducing, Retiring}, 91 * time.Minute, long, []ProxyObservation{{Name: "late", LastSeen: noon(), LeafExpires: noon().Add(90 * time.Minute)}}, true},
		"all renewed, tokens live":             {[]Phase{Signing}, 6*time.Minute - 1, long, []ProxyObservation{ready}, false},
		"all renewed, tokens over":             {[]Phase{Signing}, 6 * time.Minute, long, []ProxyObservation{ready}, true},
		"an old leaf":                          {[]Phase{Signing}, 10 * time.Minute, long, []ProxyObservation{ready, with(ready, func(p *ProxyObservation) { p.Authority = "one" })}, false},
		"an old leaf on its way":               {[]Phase{Signing}, 10 * time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Issued = "one" })}, false},
		"a new leaf on its way":                {[]Phase{Signing}, 10 * time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Issued = "two" })}, true},
		"a leaf of nobody knows whom":          {[]Phase{Signing}, 10 * time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Authority = "" })}, false},
		"old leaf, out of contact, over":       {[]Phase{Signing}, 40 * time.Minute, long, []ProxyObservation{{Name: "late", Authority: "one", LastSeen: ago(21 * time.Minute), LeafExpires: noon()}}, true},
		"old leaf, out of contact, lives":      {[]Phase{Signing}, 40*time.Minute - 1, long, []ProxyObservation{{Name: "late", Authority: "one", LastSeen: ago(21 * time.Minute), LeafExpires: noon()}}, false},
		"every old leaf must have expired":     {[]Phase{Signing}, 61 * time.Minute, long, []ProxyObservation{ready}, true},
		"expired, though memory is short":      {[]Phase{Signing}, 61 * time.Minute, noon().Add(60 * time.Minute), []ProxyObservation{ready}, true},
		"not all expired, and memory is short": {[]Phase{Signing}, 61*time.Minute - 1, noon().Add(60 * time.Minute), []ProxyObservation{ready}, false},
		"never seen, and all have expired":     {[]Phase{Signing}, 61 * time.Minute, long, []ProxyObservation{{Name: "late"}}, true},
		"an old leaf that lives too long":      {[]Phase{Signing}, 61 * time.Minute, long, []ProxyObservation{with(ready, func(p *ProxyObservation) { p.Authority, p.LeafExpires = "one", noon().Add(2*time.Hour) })}, false},
		"new alone taken":                      {[]Phase{Retiring}, time.Minute, long, []ProxyObservation{retired}, true},
		"both still taken":                     {[]Phase{Retiring}, time.Minute, long, []ProxyObservation{retired, ready}, false},
	} {
		for _, phase := range c.phases {
			t.Run(name+", "+string(phase), func(t *testing.T) {
				before := in(t, phase)
				after, waits := before.Next(Observation{Now: noon().Add(c.after), Remembers: c.remembers, Published: noon(), Proxies: c.proxies, Limits: limits()})
				if moved := after.Phase != phase; moved != c.moves || moved == (len(waits) > 0) {
					t.Errorf("moved to %s, waits %v", after.Phase, waits)
				}
				if !c.moves && after != before {
					t.Errorf("it waits, and changed: %s", cmp.Diff(before, after))
				}
			})
		}
	}
}

func TestNothingMovesBeforeTheBundleOfThePhaseIsPublished(t *testing.T) {
	for _, phase := range []Phase{Introducing, Signing, Retiring} {
		for _, published := range []time.Time{{}, noon().Add(-1)} {
			s, waits := in(t, phase).Next(Observation{Now: noon().Add(24 * time.Hour), Remembers: time.Unix(0, 0), Published: published, Limits: limits()})
			if s.Phase != phase || len(waits) != 1 || !strings.HasSuffix(waits[0].String(), "to be published") {
				t.Errorf("from %s to %s: %v", phase, s.Phase, waits)
			}
		}
	}
}

func TestAWaitSaysWhoAndUntilWhen(t *testing.T) {
	_, waits := in(t, Introducing).Next(Observation{Now: noon(), Remembers: noon(), Published: noon(), Limits: limits(), Proxies: []ProxyObservation{
		{Name: "b", LastSeen: noon()},
		{Name: "a", LastSeen: noon(), LeafExpires: noon().Add(2 * time.Hour)},
	}})
	want := []Wait{
		{For: "sight of every proxy that may still have a leaf", Until: noon().Add(61 * time.Minute)},
		{For: "proxies to take the bundle b12", Proxies: []string{"a", "b"}, Until: noon().Add(121 * time.Minute)},
	}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Error(diff)
	}
	if got, want := waits[1].String(), "waiting for proxies to take the bundle b12: 2, among them a, until 2030-01-01T14:01:00Z at the latest"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Of one that was never seen, nobody knows when it is over.
	_, waits = in(t, Retiring).Next(Observation{Now: noon(), Remembers: time.Unix(0, 0), Published: noon(), Limits: limits(), Proxies: []ProxyObservation{
		{Name: "a", LastSeen: noon()}, {Name: "b"},
	}})
	if len(waits) != 1 || !waits[0].Until.IsZero() || len(waits[0].Proxies) != 2 {
		t.Errorf("%+v", waits)
	}
}

func TestALongerLifeIsWaitedOutEvenIfItIsConfiguredMidway(t *testing.T) {
	s := in(t, Introducing)
	longer := Limits{Leaf: 3 * time.Hour, Token: 10 * time.Minute, Slack: 2 * time.Minute}
	s, _ = s.Next(Observation{Now: noon(), Limits: longer})
	s, _ = s.Next(Observation{Now: noon(), Limits: limits()})
	if s.LongestLeaf != longer.Leaf || s.LongestToken != longer.Token || s.Slack != longer.Slack {
		t.Errorf("it waits for %s, %s and %s", s.LongestLeaf, s.LongestToken, s.Slack)
	}
}

func TestBeginningIsRefusedWhileSomethingIsUnderWay(t *testing.T) {
	three := Party{Authority: "three", Bundle: "b3"}
	for _, phase := range []Phase{Introducing, Signing, Retiring} {
		_, err := in(t, phase).Begin(three, "b123", limits(), noon())
		wantCode(t, err, CodeRotationRefused)
		contains(t, err, string(phase))
	}
	for name, next := range map[string]Party{"itself": one(), "nothing": {}, "no bundle": {Authority: "two"}} {
		if _, err := in(t, Steady).Begin(next, bothBundles, limits(), noon()); CodeOf(err) != CodeRotationRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := in(t, Steady).Begin(two(), "", limits(), noon())
	wantCode(t, err, CodeRotationRefused)
	_, err = NewState(Party{}, noon())
	wantCode(t, err, CodeRotationRefused)
}

func TestTurningBackIsPossibleWhileBothAreTrusted(t *testing.T) {
	later := noon().Add(time.Hour)
	back := must[State](t)(in(t, Introducing).Abort(later))
	if diff := cmp.Diff(State{Phase: Steady, Current: one(), Entered: later}, back); diff != "" {
		t.Error(diff)
	}

	back = must[State](t)(in(t, Signing).Abort(later))
	if back.Signer() != "one" || back.Bundle() != bothBundles || back.Phase != Signing || !back.Entered.Equal(later) {
		t.Errorf("%+v", back)
	}
	if err := back.Valid(); err != nil {
		t.Error(err)
	}
	// It waits for what two has signed, and then two goes.
	o := Observation{Now: later.Add(10 * time.Minute), Remembers: noon().Add(-24 * time.Hour), Published: later, Limits: limits(), Proxies: []ProxyObservation{
		{Name: "web-1", LastSeen: later, Reported: later.Add(1), Taken: bothBundles, Authority: "two", LeafExpires: later.Add(time.Hour)},
	}}
	if s, waits := back.Next(o); s.Phase != Signing || len(waits) != 1 {
		t.Errorf("%s %v", s.Phase, waits)
	}
	o.Proxies[0].Authority = "one"
	if s, _ := back.Next(o); s.Phase != Retiring || s.Bundle() != "b1" {
		t.Errorf("%s with bundle %s", s.Phase, s.Bundle())
	}

	for _, phase := range []Phase{Retiring, Steady} {
		_, err := in(t, phase).Abort(later)
		wantCode(t, err, CodeRotationRefused)
	}
}

func TestTheStateIsTheSameAfterItWasStored(t *testing.T) {
	for _, phase := range []Phase{Steady, Introducing, Signing, Retiring} {
		s := in(t, phase)
		data := must[[]byte](t)(json.Marshal(s))
		var again State
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Errorf("%s: %s", phase, diff)
		}
	}
}

func TestAStateThatCannotBeIsAnError(t *testing.T) {
	for name, change := range map[string]func(*State){
		"nothing":          func(s *State) { *s = State{} },
		"a phase of later": func(s *State) { s.Phase = "resting" },
		"no current":       func(s *State) { s.Current = Party{} },
		"no successor":     func(s *State) { s.Successor = Party{} },
		"no bundle":        func(s *State) { s.Both = "" },
		"twice the same":   func(s *State) { s.Successor = s.Current },
		"no longest life":  func(s *State) { s.LongestLeaf = 0 },
		"negative":         func(s *State) { s.Slack = -1 },
		"no time":          func(s *State) { s.Entered = time.Time{} },
	} {
		s := in(t, Signing)
		change(&s)
		if err := s.Valid(); CodeOf(err) != CodeRotationRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
