package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// Notice tells a person something about an object that works less well than it could, or not at all.
type Notice struct {
	Kind string // "Service"
	Key  model.Key
	Text string
}

func serviceNotice(key model.Key, text string) Notice {
	return Notice{Kind: "Service", Key: key, Text: text}
}

// greetingNotices say where a server that speaks first is heard late: its sidecar waits to see whether the caller speaks
// mutual TLS, which a caller without a sidecar does not.
func (s *State) greetingNotices(p model.InboundPort, targets []target) []Notice {
	var all []Notice
	for _, t := range targets {
		if t.port.Greets && p.Protocol == model.TCP && p.MTLS == model.MTLSPermissive {
			all = append(all, serviceNotice(t.svc.fact.Key, fmt.Sprintf(
				"at port %d the server speaks first: a caller without a sidecar hears it %s later, since until then it may yet prove who it is; callers with a sidecar do not wait, and mtls: strict ends the wait with the plain text",
				t.port.Number, s.settings.DetectionTimeout)))
		}
	}
	return all
}

func (n Notice) compare(o Notice) int {
	return cmp.Or(cmp.Compare(n.Kind, o.Kind), n.Key.Compare(o.Key), cmp.Compare(n.Text, o.Text))
}

// Notices lists all that hold.
func (s *State) Notices() []Notice { return slices.SortedFunc(maps.Keys(s.notices), Notice.compare) }

// replaceNotices takes what one view has to say instead of what it said before, and reports what nobody said
// yet: a hundred pods of one Service say the same once.
func (s *State) replaceNotices(before, now []Notice, ch *Changes) []Notice {
	for _, n := range now {
		if s.notices[n]++; s.notices[n] == 1 && !slices.Contains(before, n) {
			ch.Notices = append(ch.Notices, n)
		}
	}
	for _, n := range before {
		if s.notices[n]--; s.notices[n] == 0 {
			delete(s.notices, n)
		}
	}
	return now
}
