package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mode says when one looks.
type Mode string

// Before and after the installation.
const (
	Installed Mode = ""
	Pre       Mode = "pre"
)

// Options say what is judged.
type Options struct {
	Mode      Mode
	DataPlane DataPlane
	Now       time.Time
	At        time.Time // that certificates are judged for; zero: Now
	Version   string    // of the command line
}

// DataPlane says whether sidecars are looked at.
type DataPlane string

// Sidecars are left out, unless they are asked for.
const (
	WithoutDataPlane DataPlane = ""
	WithDataPlane    DataPlane = "proxies"
)

// outcome is what a check found.
type outcome struct {
	status       Status
	reason, hint string
}

func ok() outcome                      { return outcome{status: Passed} }
func warn(reason, hint string) outcome { return outcome{Warned, reason, hint} }
func fail(reason, hint string) outcome { return outcome{Failed, reason, hint} }
func skip(reason string) outcome       { return outcome{status: Skipped, reason: reason} }

// item is one check.
type item struct {
	name, text string
	needs      []string // checks that must not have failed, nor be skipped behind one that did
	run        func(*Facts, Options) outcome
}

type group struct {
	name  string
	items []item
}

// Evaluate judges the facts.
func Evaluate(f *Facts, o Options) Report {
	if o.At.IsZero() {
		o.At = o.Now
	}
	r := Report{Success: true, Status: Passed, Now: o.Now, At: o.At}
	behind := map[string]string{} // by name: the check that failed, itself or what it needed
	for _, g := range groups(f, o) {
		s := Section{Name: g.name}
		for _, i := range g.items {
			result := i.judge(f, o, behind)
			s.Checks = append(s.Checks, result)
			r.Status = worse(r.Status, result.Status)
			r.Success = r.Success && result.Status != Failed
		}
		r.Sections = append(r.Sections, s)
	}
	return r
}

func (i item) judge(f *Facts, o Options, behind map[string]string) Result {
	result := Result{Name: i.name, Description: i.text}
	for _, need := range i.needs {
		if by := behind[need]; by != "" {
			behind[i.name] = by
			result.Status, result.Behind, result.Reason = Skipped, by, "check "+by+" failed"
			return result
		}
	}
	found := i.run(f, o)
	result.Status, result.Reason, result.Hint = found.status, found.reason, found.hint
	if found.status == Failed {
		behind[i.name] = i.name
	}
	return result
}

// worse is the worse of two.
func worse(a, b Status) Status {
	order := []Status{Skipped, Passed, Warned, Failed}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// groups are the sections in their order. Only here does it stand what needs what.
func groups(f *Facts, o Options) []group {
	all := []group{apiGroup(), versionGroup()}
	if o.Mode == Pre {
		return append(all, preGroup(f))
	}
	all = append(all, existenceGroup(), configGroup(), identityGroup(), webhookGroup(), controlPlaneGroup(), releaseGroup())
	if o.DataPlane == WithDataPlane {
		all = append(all, dataPlaneGroup())
	}
	return all
}

// few lists at most some of the things that are wrong, a line each.
func few(wrong []string) string {
	const most = 5
	slices.Sort(wrong)
	if len(wrong) > most {
		wrong = append(slices.Clone(wrong[:most]), fmt.Sprintf("and %d more", len(wrong)-most))
	}
	return strings.Join(wrong, "\n")
}

// none passes if nothing is wrong, and else fails.
func none(wrong []string, hint string) outcome {
	if len(wrong) == 0 {
		return ok()
	}
	return fail(few(wrong), hint)
}

// unread is for a fact that could not be read.
func unread(what string, err error) outcome {
	return fail(fmt.Sprintf("cannot read %s: %v", what, err), cmp.Or(hintOf(err), "see that your account may read it: kubectl auth can-i --list"))
}
