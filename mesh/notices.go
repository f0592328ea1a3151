package mesh

import (
	"cmp"
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
