package writeback

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/policy"
)

// Annotations of policy ConfigMaps.
const (
	AcceptedKey = "status.heddle.dev/accepted"
	MessageKey  = "status.heddle.dev/message"
	HashKey     = "status.heddle.dev/hash"
)

// Status is what the writer of a policy ConfigMap is told.
type Status struct {
	Accepted bool   // every document is in force as it is now
	Message  string // a line for each refused document, then one for each problem
	Hash     string // of the documents that this speaks of
	Reason   Reason // for the Event
}

// Reason is that of an Event.
type Reason string

// The reasons.
const (
	Accepted         Reason = "PolicyAccepted"
	Refused          Reason = "PolicyRefused"
	RefusedByProxies Reason = "PolicyRefusedByProxies"
)

// What a message may have. Annotations of an object have room for 256 KiB together.
const (
	maxLines = 20
	maxBytes = 4 << 10
)

// Of is the status of a ConfigMap with these documents, which may come in any order. The same documents give the same.
func Of(documents []mesh.PolicyStatus) Status {
	documents = slices.SortedFunc(slices.Values(documents), func(a, b mesh.PolicyStatus) int { return cmp.Compare(a.Item, b.Item) })
	if len(documents) == 0 {
		return none()
	}
	s := Status{Accepted: true, Reason: Accepted}
	var lines, problems []string
	hash := sha256.New()
	for _, d := range documents {
		fmt.Fprintf(hash, "%s %s\n", d.Item, d.Hash)
		if !d.Accepted {
			s.Accepted = false
			s.Reason = cmp.Or(s.Reason.worse(d), Refused)
			lines = append(lines, refused(d))
		}
		for _, p := range d.Problems {
			p.File = d.Item
			problems = append(problems, oneLine(p.String()))
		}
	}
	s.Hash = hex.EncodeToString(hash.Sum(nil)[:8])
	if lines = append(lines, problems...); len(lines) == 0 {
		lines = []string{"in force"}
	}
	s.Message = bounded(lines)
	return s
}

// none is the status of a ConfigMap that has the label, and nothing else.
func none() Status {
	p := policy.CodeConfigMap
	return Status{
		Message: p.String() + ": no key of the ConfigMap's data ends in .yaml, so it says nothing; write data: with a key such as traffic.yaml, or delete it",
		Hash:    hex.EncodeToString(make([]byte, 8)), Reason: Refused,
	}
}

// worse is the reason that a refused document gives, beside those before it: that proxies refused one is told first.
func (r Reason) worse(d mesh.PolicyStatus) Reason {
	byProxies := slices.ContainsFunc(d.Problems, func(p policy.Problem) bool { return p.Code == policy.CodeRefused })
	if byProxies || r == RefusedByProxies {
		return RefusedByProxies
	}
	return Refused
}

// refused says what holds in the place of a document that does not.
func refused(d mesh.PolicyStatus) string {
	if d.Serving != "" {
		return fmt.Sprintf("%s is refused: its last good version (%s) stays in force", d.Item, d.Serving)
	}
	denies := func(p policy.Problem) bool { return p.Code == policy.CodeDenying }
	if slices.ContainsFunc(d.Problems, denies) {
		return d.Item + " is refused, and denies what it covers, since no version of it was ever good"
	}
	return d.Item + " is refused and has no effect, since no version of it was ever good"
}

// bounded puts lines together, as many as there is room for.
func bounded(lines []string) string {
	var b strings.Builder
	for i, l := range lines {
		const more = 64 // for the last line
		if i == maxLines || b.Len()+len(l) > maxBytes-more && i > 0 {
			fmt.Fprintf(&b, "\nand %d more: heddle policy validate tells all", len(lines)-i)
			break
		}
		if i > 0 {
			_ = b.WriteByte('\n')
		}
		_, _ = io.WriteString(&b, clip(l, maxBytes-more))
	}
	return b.String()
}

// clip cuts a text to so many bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}

// oneLine keeps what others wrote, such as a proxy's reason, from looking like lines of ours.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Annotations are the status as it is written.
func (s Status) Annotations() map[string]string {
	return map[string]string{AcceptedKey: strconv.FormatBool(s.Accepted), MessageKey: s.Message, HashKey: s.Hash}
}
