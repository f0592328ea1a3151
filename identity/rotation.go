package identity

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Phase is a step of a rotation.
type Phase string

// Phases, in their order.
const (
	Steady      Phase = "steady"      // one authority, trusted and signing
	Introducing Phase = "introducing" // the next one is in the bundle too; the current one signs
	Signing     Phase = "signing"     // both are in the bundle; the next one signs
	Retiring    Phase = "retiring"    // the next one alone is in the bundle, and signs
)

// Party is an authority in a rotation, as far as the state has to know it.
type Party struct {
	Authority string `json:"authority"` // [Authority.Name], or another issuer's name for what signs
	Bundle    string `json:"bundle"`    // [Fingerprint] of the bundle that trusts it and nothing else
}

// State is where a trust domain's rotation stands. It is a value, to be stored as JSON, and has no secrets. The
// package's documentation says how it goes on, and what happens when whoever drives it dies.
//
// All effects follow from it and from nothing else: [State.Trusted] is what the bundle must hold, [State.Signer]
// who signs. So whoever drives it stores the new value first, then makes the world so; a successor that finds a stored
// value does the latter again, and nothing is lost.
type State struct {
	Phase     Phase     `json:"phase"`
	Current   Party     `json:"current"`
	Successor Party     `json:"successor,omitzero"` // in a rotation only
	Both      string    `json:"both,omitempty"`     // fingerprint of the bundle of both; in a rotation only
	Entered   time.Time `json:"entered"`            // when the phase began

	// The longest lives of what was signed; [State.Next] waits them out. Never shortened during a rotation.
	LongestLeaf  time.Duration `json:"longestLeaf"`
	LongestToken time.Duration `json:"longestToken"`
	Slack        time.Duration `json:"slack"` // for clocks that differ, added to every expiry
}

// Limits are the longest lives of what is signed.
type Limits struct {
	Leaf  time.Duration // default DefaultLifetime
	Token time.Duration // default MaxTokenLifetime
	Slack time.Duration // how far clocks may differ; default 1 minute, which verifiers of tokens grant as well
}

// Observation is what is known of the proxies, the control plane's own included, at a time.
type Observation struct {
	Now time.Time
	// Remembers is since when nobody was forgotten: each proxy that was issued a leaf, or had contact, at or after it
	// is in Proxies. An observer that lost its memory says when it began anew; one that knows all proxies from
	// elsewhere (the API server's list of pods) may say a time long ago. The zero value remembers nothing.
	Remembers time.Time
	// Published is since when the bundle of [State.Bundle], and no other, is handed out to whoever asks. A driver that
	// begins anew publishes it again. Zero: not yet. Only what a proxy reports after it is counted: before, it may have been given
	// another bundle since.
	Published time.Time
	Proxies   []ProxyObservation
	Limits    Limits // as configured now; they may have grown
}

// ProxyObservation is what is known of one proxy that may have a leaf: of a pod that is deleted, or whose sidecar has
// not started yet, there is nothing to observe.
type ProxyObservation struct {
	Name string // for people
	// LastSeen is its last contact; if none is known, when the observer began to know of it. Zero: it is never held for
	// gone.
	LastSeen time.Time
	// Reported is when it last reported: Taken, the fingerprint of the bundle that its Envoy has in use, and Authority,
	// who signed the leaf that its Envoy has in use. One that has had its first leaf just now has reported by that the
	// bundle that came with it, since it has no other. What one has reported before it was issued another leaf says
	// nothing of the leaf that it uses since: Authority is empty then.
	Reported         time.Time
	Taken, Authority string
	Issued           string    // who signed the leaf that it was issued last; it may be on its way still. Empty: not known
	LeafExpires      time.Time // when the one in use does, or the one issued last, whichever is later
}

// Wait is why a rotation stands where it is, for people.
type Wait struct {
	For     string    // what is awaited
	Proxies []string  // who keeps it waiting, sorted; empty if it is time alone
	Until   time.Time // when it is over without them at the latest; zero: not known
}

func (w Wait) String() string {
	text := "waiting for " + w.For
	if n := len(w.Proxies); n > 0 {
		text += fmt.Sprintf(": %d, among them %s", n, w.Proxies[0])
	}
	if !w.Until.IsZero() {
		text += ", until " + w.Until.UTC().Format(time.RFC3339) + " at the latest"
	}
	return text
}

// NewState is the state of a trust domain with one authority.
func NewState(current Party, now time.Time) (State, error) {
	if current.Authority == "" || current.Bundle == "" {
		return State{}, refuse(CodeRotationRefused, "begin with an authority: it has no name, or no bundle")
	}
	return State{Phase: Steady, Current: current, Entered: now}, nil
}

// Begin starts a rotation to next; both is the fingerprint of the bundle that trusts the two of them, limits the
// longest lives of what the current one has signed. Nothing that is in use changes by it.
func (s State) Begin(next Party, both string, limits Limits, now time.Time) (State, error) {
	switch {
	case s.Phase != Steady:
		return s, refuse(CodeRotationRefused, "begin a rotation to %.16s: one to %.16s is under way, %s since %s; wait for its end, or abort it",
			next.Authority, s.Successor.Authority, s.Phase, s.Entered.UTC().Format(time.RFC3339))
	case next.Authority == "" || next.Bundle == "" || both == "":
		return s, refuse(CodeRotationRefused, "begin a rotation: the next authority has no name, or no bundle")
	case next.Authority == s.Current.Authority:
		return s, refuse(CodeRotationRefused, "begin a rotation to %.16s: it signs already", next.Authority)
	}
	s.Phase, s.Successor, s.Both, s.Entered = Introducing, next, both, now
	s.LongestLeaf, s.LongestToken, s.Slack = 0, 0, 0
	return s.lengthened(limits), nil
}

// Abort turns back. While the next authority has signed nothing, it simply goes. Once it signs, roles are swapped: the
// current one signs again, and the next one goes when nothing that it signed is left. When it alone is trusted there is
// no way back but a rotation of its own.
func (s State) Abort(now time.Time) (State, error) {
	switch s.Phase {
	case Introducing:
		return State{Phase: Steady, Current: s.Current, Entered: now}, nil
	case Signing:
		s.Current, s.Successor, s.Entered = s.Successor, s.Current, now
		return s, nil
	case Retiring:
		return s, refuse(CodeRotationRefused, "abort the rotation to %.16s: some proxies no longer trust %.16s; let it end, then rotate again",
			s.Successor.Authority, s.Current.Authority)
	}
	return s, refuse(CodeRotationRefused, "abort a rotation: none is under way")
}

// Trusted names the authorities that the bundle must hold.
func (s State) Trusted() []string {
	switch s.Phase {
	case Introducing, Signing:
		return []string{s.Current.Authority, s.Successor.Authority}
	case Retiring:
		return []string{s.Successor.Authority}
	}
	return []string{s.Current.Authority}
}

// Bundle is the fingerprint of the bundle of [State.Trusted].
func (s State) Bundle() string {
	switch s.Phase {
	case Introducing, Signing:
		return s.Both
	case Retiring:
		return s.Successor.Bundle
	}
	return s.Current.Bundle
}

// Signer names the authority that signs.
func (s State) Signer() string {
	if s.Phase == Signing || s.Phase == Retiring {
		return s.Successor.Authority
	}
	return s.Current.Authority
}

// Valid says what is wrong with a value that was read from where it is stored. A state that cannot be, is an error, and
// never a beginning from nothing.
func (s State) Valid() error {
	inRotation := slices.Contains([]Phase{Introducing, Signing, Retiring}, s.Phase)
	switch {
	case s.Phase != Steady && !inRotation:
		return refuse(CodeRotationRefused, "read the state of the rotation: phase %q is not known to this version", s.Phase)
	case s.Current.Authority == "" || s.Current.Bundle == "":
		return refuse(CodeRotationRefused, "read the state of the rotation: it names no current authority")
	case inRotation && (s.Successor.Authority == "" || s.Successor.Bundle == "" || s.Both == "" || s.Successor.Authority == s.Current.Authority):
		return refuse(CodeRotationRefused, "read the state of the rotation: in phase %s it names no next authority", s.Phase)
	case s.LongestLeaf < 0 || s.LongestToken < 0 || s.Slack < 0 || inRotation && s.LongestLeaf == 0:
		return refuse(CodeRotationRefused, "read the state of the rotation: lives of %s and %s cannot be", s.LongestLeaf, s.LongestToken)
	case s.Entered.IsZero():
		return refuse(CodeRotationRefused, "read the state of the rotation: it does not say when phase %s began", s.Phase)
	}
	return nil
}

// Next moves on by at most one phase, if what was observed allows it, and else says what it waits for. It may be called
// as often as one likes. In steady state it does nothing.
func (s State) Next(o Observation) (State, []Wait) {
	if s.Phase == Steady {
		return s, nil
	}
	s = s.lengthened(o.Limits)
	var waits []Wait
	switch {
	case o.Published.Before(s.Entered):
		waits = []Wait{{For: "the bundle " + short(s.Bundle()) + " to be published"}}
	case s.Phase == Signing:
		waits = s.waitForLeaves(o)
	default:
		waits = s.waitForBundle(o)
	}
	if len(waits) > 0 {
		return s, waits
	}
	s.Entered = o.Now
	switch s.Phase {
	case Introducing:
		s.Phase = Signing
	case Signing:
		s.Phase = Retiring
	case Retiring:
		s = State{Phase: Steady, Current: s.Successor, Entered: o.Now}
	}
	return s, nil
}

// waitForBundle waits until each proxy that can still take part in the mesh has the bundle of this phase in use.
func (s State) waitForBundle(o Observation) []Wait {
	var waits []Wait
	if w, blind := s.waitForMemory(o); blind {
		waits = append(waits, w)
	}
	return s.waitForProxies(waits, "proxies to take the bundle "+short(s.Bundle()), o, func(p ProxyObservation) bool {
		return p.Taken != s.Bundle() || !p.Reported.After(o.Published)
	})
}

// waitForLeaves waits until nothing that the current authority signed is in use. All of it has expired after the
// longest life, whether we know of it or not: since this phase began that authority has signed nothing.
func (s State) waitForLeaves(o Observation) []Wait {
	var waits []Wait
	tokens := s.Entered.Add(s.LongestToken + s.Slack)
	if o.Now.Before(tokens) {
		waits = append(waits, Wait{For: "tokens of authority " + short(s.Current.Authority) + " to expire", Until: tokens})
	}
	leaves := s.Entered.Add(s.LongestLeaf + s.Slack)
	expired := !o.Now.Before(leaves)
	if w, blind := s.waitForMemory(o); blind && !expired {
		w.Until = leaves
		waits = append(waits, w)
	}
	return s.waitForProxies(waits, "leaves of authority "+short(s.Current.Authority)+" to be replaced or to expire", o, func(p ProxyObservation) bool {
		if expired { // but what is seen to live counts, whatever the clock says
			old := p.Authority == s.Current.Authority || p.Issued == s.Current.Authority
			return old && o.Now.Before(p.LeafExpires.Add(s.Slack))
		}
		return p.Authority != s.Successor.Authority || !p.Reported.After(o.Published) || p.Issued == s.Current.Authority
	})
}

// waitForProxies adds a wait for those that are late and not gone.
func (s State) waitForProxies(waits []Wait, what string, o Observation, late func(ProxyObservation) bool) []Wait {
	w := Wait{For: what}
	forever := false
	for _, p := range o.Proxies {
		if !late(p) || s.gone(p, o.Now) {
			continue
		}
		w.Proxies = append(w.Proxies, p.Name)
		forever = forever || p.LastSeen.IsZero()
		if at := s.goneAt(p); at.After(w.Until) {
			w.Until = at
		}
	}
	if len(w.Proxies) == 0 {
		return waits
	}
	if forever {
		w.Until = time.Time{}
	}
	slices.Sort(w.Proxies)
	return append(waits, w)
}

// waitForMemory says whether there may be a proxy that the observer does not know of: one with a leaf that still lives,
// and no contact since the observer began.
func (s State) waitForMemory(o Observation) (Wait, bool) {
	wait := Wait{For: "sight of every proxy that may still have a leaf"}
	if o.Remembers.IsZero() {
		return wait, true
	}
	wait.Until = o.Remembers.Add(s.LongestLeaf + s.Slack)
	return wait, o.Now.Before(wait.Until)
}

// gone says that a proxy has no leaf that lives: it was issued none since its last contact, and the one it had then is
// over. If it comes back, it gets today's bundle together with a leaf.
func (s State) gone(p ProxyObservation, now time.Time) bool {
	return !p.LastSeen.IsZero() && !now.Before(s.goneAt(p))
}

func (s State) goneAt(p ProxyObservation) time.Time {
	at := p.LastSeen.Add(s.LongestLeaf)
	if p.LeafExpires.After(at) {
		at = p.LeafExpires
	}
	return at.Add(s.Slack)
}

func (s State) lengthened(l Limits) State {
	s.LongestLeaf = max(s.LongestLeaf, cmp.Or(l.Leaf, DefaultLifetime))
	s.LongestToken = max(s.LongestToken, cmp.Or(l.Token, MaxTokenLifetime))
	s.Slack = max(s.Slack, cmp.Or(l.Slack, time.Minute))
	return s
}

func short(name string) string { return fmt.Sprintf("%.16s", name) }
