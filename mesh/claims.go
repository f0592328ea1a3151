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

// claim is a Service's wish for an address. The better founded one wins, then the older Service, then the first by name.
type claim struct {
	key    model.Key
	ground ground
	age    int64 // Unix seconds of creation
}

// ground is what a claim is founded on, the best first. Slices are written by people as well: what they name counts
// less than whose an address is known to be.
type ground uint8

const (
	ownAddress ground = iota // the Service's
	ownPod                   // a pod of its namespace has the address
	onlyNamed                // by a slice; no pod is known to have the address for itself
	foreignPod               // pods of other namespaces alone have the address: no claim at all
)

// wish is a claim and where it is made.
type wish struct {
	at netip.AddrPort
	by claim
}

func (c claim) compare(o claim) int {
	return cmp.Or(cmp.Compare(c.ground, o.ground), cmp.Compare(c.age, o.age), c.key.Compare(o.key))
}

// groundAt says what a Service's claim on an address that its slices name is founded on.
func (s *State) groundAt(namespace string, a netip.Addr) ground {
	pods := s.podsAt[a]
	if len(pods) == 0 {
		return onlyNamed
	}
	for pod := range pods {
		if pod.Namespace == namespace {
			return ownPod
		}
	}
	return foreignPod
}

// movePod keeps account of who has an address, and marks the headless Services whose slices name it.
func (s *State) movePod(key model.Key, old, pod *model.Pod) {
	before, now := addressesOf(old), addressesOf(pod)
	if slices.Equal(before, now) {
		return
	}
	for _, a := range before {
		s.podsAt.remove(a, key)
		s.dirty.reach.addAll(s.namedBy[a])
	}
	for _, a := range now {
		s.podsAt.add(a, key)
		s.dirty.reach.addAll(s.namedBy[a])
	}
}

// addressesOf gives the addresses that a pod has for itself: it shares those of the host's network, and those of a
// pod that has ended may be another's by now.
func addressesOf(pod *model.Pod) []netip.Addr {
	if pod == nil || pod.HostNetwork || pod.Finished {
		return nil
	}
	return pod.Addresses
}

// nameAll replaces the addresses that the slices of a headless Service name.
func (s *State) nameAll(key model.Key, before, now []instance) {
	for _, i := range before {
		s.namedBy.remove(i.Address.Addr(), key)
	}
	for _, i := range now {
		s.namedBy.add(i.Address.Addr(), key)
	}
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
func (s *State) claimAll(svc *service, wants []wish) {
	if slices.Equal(svc.wants, wants) {
		return
	}
	for _, w := range svc.wants {
		s.claims.remove(w.at, w.by)
	}
	for _, w := range wants {
		s.claims.add(w.at, w.by)
	}
	for _, list := range [][]wish{svc.wants, wants} {
		for _, w := range list {
			for _, other := range s.claims[w.at] {
				s.dirty.outbounds.add(other.key)
			}
		}
	}
	svc.wants = wants
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
func (s *State) wants(svc *model.Service, instances []instance) []wish {
	if svc == nil {
		return nil
	}
	var all []wish
	add := func(a netip.AddrPort, g ground) {
		all = append(all, wish{s.listenerAt(a), claim{svc.Key, g, svc.Created.Unix()}})
	}
	for _, a := range svc.Addresses {
		for _, p := range svc.Ports {
			add(netip.AddrPortFrom(a, p.Number), ownAddress)
		}
	}
	for _, i := range instances {
		if i.ground != foreignPod {
			add(i.Address, i.ground)
		}
	}
	return all
}
