package xds

import "slices"

// entry is what one layer holds under one name.
type entry struct {
	layer  *layer
	slot   *slot
	wanted *version   // published last
	good   *version   // the newest before that which some proxy accepted; nil if there is none
	past   []*version // refused and since replaced, so that they are known should they come back
	count  uint64     // of versions
}

// version is one content of an entry, with what proxies said of it.
type version struct {
	*Resource
	entry     *entry
	number    uint64 // of the entry's versions, in order
	acked     bool
	withdrawn bool              // refused by so many that it is not served to anybody
	refused   map[string]string // by proxy: its reason
}

func (v *version) slot() *slot { return v.entry.slot }

// remembered is how many refused versions of one entry are known again. It bounds memory; a policy that is edited
// back and forth needs two or three.
const remembered = 8

// publish makes r the wanted version and says whether what is served changed.
func (e *entry) publish(r *Resource) bool {
	if e.wanted != nil && e.wanted.Version == r.Version {
		return false
	}
	before := e.served()
	if old := e.wanted; old != nil {
		e.wanted = nil
		e.keep(old)
	}
	e.wanted = e.recall(r)
	return e.served() != before
}

// keep decides what becomes of a version that is not wanted any more, when it is replaced and when proxies answer
// later still: the newest that one accepted is what there is to go back to, and a refused one is remembered.
func (e *entry) keep(v *version) {
	switch {
	case v == e.wanted || v == e.good:
	case v.acked && !v.withdrawn && (e.good == nil || e.good.number < v.number):
		e.good = v
	case len(v.refused) > 0 && !slices.Contains(e.past, v):
		e.past = append(e.past, v)
		e.past = e.past[max(0, len(e.past)-remembered):]
	}
}

// recall gives the version of that content with what is known of it already.
func (e *entry) recall(r *Resource) *version {
	if e.good != nil && e.good.Version == r.Version {
		return e.good
	}
	if i := slices.IndexFunc(e.past, func(v *version) bool { return v.Version == r.Version }); i >= 0 {
		v := e.past[i]
		e.past = slices.Delete(e.past, i, i+1)
		return v
	}
	e.count++
	return &version{Resource: r, entry: e, number: e.count}
}

// served is what proxies get that have not refused it: nil if there is nothing that can be served.
func (e *entry) served() *version {
	if e.wanted == nil || !e.wanted.withdrawn {
		return e.wanted
	}
	return e.good
}

// servedTo is what this proxy gets: nil if it refused all there is, and so keeps what it has.
func (e *entry) servedTo(proxy string) *version {
	for _, v := range [...]*version{e.served(), e.good} {
		if v != nil && v.refused[proxy] == "" {
			return v
		}
	}
	return nil
}
