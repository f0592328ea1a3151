package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/service"
)

// wideWidth is how many characters the wide table needs.
const wideWidth = 132

// table writes a report for people. The narrow one fits into 80 characters where names are short.
func (r identityReport) table(wide bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Trust domain %s, trust bundle %s\n", r.TrustDomain, short(r.Fingerprint))
	r.writeRotation(&b)
	if !r.At.Equal(r.Now) {
		fmt.Fprintf(&b, "States are those at %s (in %s)\n", r.At.Format(time.RFC3339), span(r.At.Sub(r.Now)))
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	r.writeAuthorities(w, wide)
	r.writeOwn(w, wide)
	r.writeSidecars(w, wide)
	w.Flush() // into memory: it cannot fail
	r.writeHints(&b)
	return b.String()
}

// writeHints says what to do about what is marked.
func (r identityReport) writeHints(b *strings.Builder) {
	count := map[state]int{}
	for _, s := range r.States {
		count[s]++
	}
	if r.Expired > 0 {
		b.WriteString("\n")
	}
	if n := count[expired]; n > 0 {
		fmt.Fprintf(b, "%d × expired: anchors and issuers are not renewed by themselves:\nheddle identity rotate --help\n", n)
	}
	switch n := count[unrenewed]; {
	case n > 0 && r.Rotation.Fault != "":
		fmt.Fprintf(b, "%d × not renewed, since nothing is signed: docs/identity.md, Recovering\n", n)
	case n > 0:
		fmt.Fprintf(b, "%d × not renewed, since the issuer will have expired:\nheddle identity rotate --help\n", n)
	}
	if n := count[untrusted]; n > 0 {
		fmt.Fprintf(b, "%d × untrusted, by a CA that was given up. It passes by itself: wait, or restart\nthose sidecars (docs/identity.md, Recovering)\n", n)
	}
}

func (r identityReport) writeRotation(b *strings.Builder) {
	p := r.facts.Rotation
	fmt.Fprintf(b, "Rotation: %s since %s\n", p.Phase, p.Since.UTC().Format(time.RFC3339))
	for _, wait := range p.Waits {
		fmt.Fprintf(b, "  %s\n", wait)
	}
	for _, u := range p.Uncopied {
		fmt.Fprintf(b, "‼ The trust bundle cannot be written in namespace %s: what starts there waits: %s\n", u.Namespace, u.Error)
	}
	if p.Phase != identity.Steady {
		fmt.Fprintf(b, "  to %s; %s signs now\n", short(p.Successor), short(p.Signer))
	}
	if p.Fault != "" {
		fmt.Fprintf(b, "× Nothing is signed: %s\n", p.Fault)
	} else if !p.Leading {
		b.WriteString("‼ This replica does not sign; ask the one that leads for its sidecars\n")
	}
}

func (r identityReport) writeAuthorities(w *tabwriter.Writer, wide bool) {
	section(w, "Trust anchors")
	row(w, pick(wide, "FINGERPRINT", "SUBJECT", "ALGORITHM", "VALID FROM", "EXPIRES", "STATE"), pick(!wide, "FINGERPRINT", "ALGORITHM", "EXPIRES", "STATE"))
	for _, a := range r.Anchors {
		s := r.mark(a.Name)
		row(w, pick(wide, short(a.Name), a.Subject, a.Algorithm, day(a.NotBefore), r.expiry(a.NotAfter), s),
			pick(!wide, short(a.Name), a.Algorithm, r.expiry(a.NotAfter), s))
	}
	section(w, "Issuers")
	row(w, pick(wide, "FINGERPRINT", "SUBJECT", "ALGORITHM", "VALID FROM", "EXPIRES", "STATE", "KIND"), pick(!wide, "FINGERPRINT", "ALGORITHM", "EXPIRES", "STATE", "KIND"))
	for _, i := range r.Issuers {
		kind := "built-in root"
		if i.Given {
			kind = "given"
		}
		if i.Signs {
			kind += ", signs"
		}
		s := r.mark(i.Name)
		row(w, pick(wide, short(i.Name), i.Subject, i.Algorithm, day(i.NotBefore), r.expiry(i.Expires), s, kind),
			pick(!wide, short(i.Name), i.Algorithm, r.expiry(i.Expires), s, kind))
	}
}

func (r identityReport) writeOwn(w *tabwriter.Writer, wide bool) {
	section(w, "The control plane's own certificates")
	row(w, []string{"ACCOUNT", "EXPIRES", "ISSUER", "STATE"}, pick(wide, "SPIFFE ID"))
	for _, l := range r.ControlPlane {
		account := l.ID[strings.LastIndex(l.ID, "/")+1:]
		row(w, []string{account, r.expiry(l.NotAfter), short(l.Authority), r.mark(l.ID)}, pick(wide, l.ID))
	}
}

func (r identityReport) writeSidecars(w *tabwriter.Writer, wide bool) {
	section(w, "Sidecars")
	if len(r.Sidecars) == 0 {
		fmt.Fprintln(w, "none that this process knows of")
		return
	}
	row(w, []string{"POD"}, pick(!wide, "ACCOUNT"), []string{"EXPIRES", "ISSUER", "BUNDLE", "STATE"}, pick(wide, "CONNECTED", "SPIFFE ID"))
	for _, c := range r.Sidecars {
		row(w, []string{c.Namespace + "/" + c.Pod}, pick(!wide, c.Account),
			[]string{r.expiry(c.NotAfter), short(c.Authority), r.taken(c), r.mark(podKey(c)) + map[bool]string{true: ", away"}[!c.Connected && !wide]},
			pick(wide, yesNo(c.Connected), c.ID))
	}
}

// taken is which bundle a sidecar's Envoy has in use.
func (r identityReport) taken(c service.Sidecar) string {
	switch c.Taken {
	case "":
		return "?"
	case r.Fingerprint:
		return "current"
	}
	return short(c.Taken)
}

// mark is a state for people, with the marks that heddle's checks have.
func (r identityReport) mark(key string) string {
	switch s := r.States[key]; s {
	case valid:
		return "√ valid"
	case renewed:
		return "√ renewed"
	case rotated:
		return "√ rotated out"
	case awaited:
		return "‼ expired"
	case unrenewed:
		return "× not renewed"
	default:
		return "× " + string(s)
	}
}

// expiry is how long from now, and in what is far away the day.
func (r identityReport) expiry(t time.Time) string {
	left := t.Sub(r.Now)
	if left <= 0 {
		return span(-left) + " ago"
	}
	if left < 48*time.Hour {
		return "in " + span(left)
	}
	return day(t) + " (" + span(left) + ")"
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// span is a duration for people: its two largest units.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}

func short(name string) string { return fmt.Sprintf("%.12s", name) }

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func section(w *tabwriter.Writer, title string) { fmt.Fprintf(w, "\n%s\n", title) }

// pick gives cells if they are to be shown.
func pick(shown bool, cells ...string) []string {
	if !shown {
		return nil
	}
	return cells
}

func row(w *tabwriter.Writer, parts ...[]string) {
	var cells []string
	for _, p := range parts {
		cells = append(cells, p...)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}
