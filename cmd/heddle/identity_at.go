package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
)

// parseAt reads the time to look ahead to; empty is now. A time that is given without a zone is in UTC.
func parseAt(text string, now time.Time) (time.Time, error) {
	wrong := fmt.Errorf("--at %q: want +45d, +12h, +1d12h, a date such as 2027-01-31, or RFC 3339", text)
	if text == "" {
		return now, nil
	}
	ahead, isAhead := strings.CutPrefix(text, "+")
	if !isAhead {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if at, err := time.Parse(layout, text); err == nil {
				return at, nil
			}
		}
		return time.Time{}, wrong
	}
	days, rest, hasDays := strings.Cut(ahead, "d")
	if !hasDays {
		days, rest = "0", ahead
	}
	n, err := strconv.ParseUint(days, 10, 16) // 179 years
	if err != nil {
		return time.Time{}, wrong
	}
	var hours time.Duration
	if rest != "" || !hasDays {
		if hours, err = time.ParseDuration(rest); err != nil || hours < 0 || rest[0] == '+' {
			return time.Time{}, wrong
		}
	}
	return now.Add(time.Duration(n)*24*time.Hour + hours), nil
}

// facts are service.Facts with the type of the rotation's progress.
type facts struct {
	service.Facts
	Rotation keep.Progress `json:"rotation"`
}

// state is what a certificate will be at a time.
type state string

const (
	valid     state = "valid"
	renewed   state = "renewed"     // it has expired by then, and another one stands in its place
	rotated   state = "rotated"     // the rotation that is under way removes it
	awaited   state = "unreachable" // it has expired by then, unless its sidecar comes back
	expired   state = "expired"     // and nobody renews it by himself
	unrenewed state = "not-renewed" // it has expired by then, and who would renew it cannot
	untrusted state = "untrusted"   // who signed it was given up
)

// identityReport is the facts with what they mean at a time.
type identityReport struct {
	facts
	Now     time.Time `json:"now"`
	At      time.Time `json:"at"`
	Expired int       `json:"expired"` // anchors, issuers and leaves in states expired, not-renewed and untrusted
	// States are those of anchors and issuers by name, of leaves of the control plane by ID, of sidecars' by pod.
	States map[string]state `json:"states"`
}

// judge says what will have expired at a time. What is renewed by itself is judged by whether it can be: by the CA that
// signs then.
func judge(have facts, now, at time.Time) identityReport {
	r := identityReport{facts: have, Now: now.UTC(), At: at.UTC(), States: map[string]state{}}
	signer := have.finalSigner()
	leads := map[string]bool{} // to which anchors the final signer does
	known := map[string]bool{}
	canRenew := have.Rotation.Fault == ""
	for _, i := range have.Issuers {
		known[i.Name] = true
		if i.Name == signer {
			canRenew = canRenew && i.Expires.After(at)
			for _, name := range i.Anchors {
				leads[name] = true
			}
		}
	}
	lasting := func(name string, until time.Time, stays bool) {
		switch {
		case until.After(at):
			r.set(name, valid)
		case !stays && have.Rotation.Phase != identity.Steady:
			r.set(name, rotated)
		default:
			r.set(name, expired)
		}
	}
	for _, a := range have.Anchors {
		lasting(a.Name, a.NotAfter, leads[a.Name])
	}
	for _, i := range have.Issuers {
		if _, isAnchor := r.States[i.Name]; !isAnchor {
			lasting(i.Name, i.Expires, i.Name == signer)
		}
	}
	renewing := func(key, authority string, until time.Time, connected bool) {
		switch {
		case !known[authority]:
			r.set(key, untrusted)
		case until.After(at):
			r.set(key, valid)
		case !canRenew:
			r.set(key, unrenewed)
		case !connected:
			r.set(key, awaited)
		default:
			r.set(key, renewed)
		}
	}
	for _, l := range have.ControlPlane {
		renewing(l.ID, l.Authority, l.NotAfter, true)
	}
	for _, c := range have.Sidecars {
		renewing(podKey(c), c.Authority, c.NotAfter, c.Connected)
	}
	return r
}

func (r *identityReport) set(key string, s state) {
	r.States[key] = s
	if s == expired || s == unrenewed || s == untrusted {
		r.Expired++
	}
}

func podKey(c service.Sidecar) string {
	if c.PodUID == "" {
		return c.Namespace + "/" + c.Pod
	}
	return c.Namespace + "/" + c.Pod + "/" + c.PodUID
}

// finalSigner names who signs when the rotation that is under way has ended.
func (f facts) finalSigner() string {
	if f.Rotation.Successor != "" {
		return f.Rotation.Successor
	}
	return f.Rotation.Signer
}
