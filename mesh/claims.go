package mesh

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// claims says which Services want a listener at an address, the one that gets it first: two listeners at one
// address would be refused by every proxy, and cost the innocent Service its listener too.
type claims map[netip.AddrPort][]claim

// claim is a Service's wish for an address. A Service's own address is its alone, whatever addresses the slices of a
// headless one name: these are written by people as well. Else the older Service wins, then the first by name.
type claim struct {
	key      model.Key
	headless bool  // it claims its pods' addresses
	age      int64 // Unix seconds of creation
}

func (c claim) compare(o claim) int {
	if c.headless != o.headless {
		if o.headless {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.age, o.age), c.key.Compare(o.key))
}

// owner gives the Service that the address belongs to.
func (c claims) owner(a netip.AddrPort) model.Key {
	if all := c[a]; len(all) > 0 {
		return all[0].key
	}
	return model.Key{}
}

func (c claims) add(a netip.AddrPort, by claim) {
	at, ok := slices.BinarySearchFunc(c[a], by, claim.compare)
	if !ok {
		c[a] = slices.Insert(c[a], at, by)
	}
}

func (c claims) remove(a netip.AddrPort, by claim) {
	at, ok := slices.BinarySearchFunc(c[a], by, claim.compare)
	if !ok {
		return
	}
	if c[a] = slices.Delete(c[a], at, at+1); len(c[a]) == 0 {
		delete(c, a)
	}
}

// claimAll replaces what a Service claims, and marks the other Services that win or lose an address by it.
func (s *State) claimAll(svc *service, by claim, wants []netip.AddrPort) {
	if svc.claimed == by && slices.Equal(svc.wants, wants) {
		return
	}
	for _, a := range svc.wants {
		s.claims.remove(a, svc.claimed)
	}
	for _, a := range wants {
		s.claims.add(a, by)
	}
	for _, list := range [][]netip.AddrPort{svc.wants, wants} {
		for _, a := range list {
			for _, other := range s.claims[a] {
				s.dirty.outbounds.add(other.key)
			}
		}
	}
	svc.claimed, svc.wants = by, wants
}

// listenerAt is where the listener for a destination stands, as far as others could want to stand there.
func (s *State) listenerAt(destination netip.AddrPort) netip.AddrPort {
	if !s.options.Unredirected {
		return destination
	}
	last := destination.Addr().AsSlice()
	last = last[len(last)-2:]
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, last[0], last[1]}), destination.Port())
}

// wants lists where a Service needs listeners: at its own addresses, or at those of its pods if it has none.
func (s *State) wants(svc *model.Service, instances []model.Instance) []netip.AddrPort {
	if svc == nil {
		return nil
	}
	var all []netip.AddrPort
	for _, a := range svc.Addresses {
		for _, p := range svc.Ports {
			all = append(all, s.listenerAt(netip.AddrPortFrom(a, p.Number)))
		}
	}
	for _, i := range instances {
		all = append(all, s.listenerAt(i.Address))
	}
	return all
}
