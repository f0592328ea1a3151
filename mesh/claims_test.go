package mesh

import (
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

// A StatefulSet's pod with its Service, and an older Service of another namespace whose slice is written by hand.
func stranger(named ...model.SliceEndpoint) []any {
	return []any{
		aService("shop/web", "", headless, func(s *model.Service) { s.Created = day(2) }),
		aPod("shop/a", "10.1.0.1"), aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
		aService("evil/old", "", headless, func(s *model.Service) { s.Created = day(1) }),
		aPod("evil/mine", "10.1.0.66"), aSlice("evil/old-1", "old", named...),
	}
}

func TestAnOlderHeadlessServiceTakesNoPodOfAnotherNamespace(t *testing.T) {
	for name, named := range map[string]model.SliceEndpoint{
		"as an address":                                    at("", "10.1.0.1"),
		"as that of a pod of its own":                      at("mine", "10.1.0.1"),
		"as that of a pod of its own that is about to end": at("mine", "10.1.0.1", terminating),
	} {
		s := meshOf(stranger(named, at("", "192.0.2.1"))...)
		want(t, name+": the pod's Service", instances(s, "shop/web"), []string{"80 10.1.0.1:8080"})
		want(t, name+": the other", instances(s, "evil/old"), []string{"80 192.0.2.1:8080 plain"})
		want(t, name+": notices", s.Notices(), []Notice{{"Service", key("evil/old"),
			"its EndpointSlices name 10.1.0.1:8080, which a pod of another namespace has: calls to it do not follow this Service's policy; take the address out of them, or put the Service into the pod's namespace"}})
	}
}

func TestAnAddressOfAPodThatNoServiceNamesIsNobodysElse(t *testing.T) {
	s := meshOf(stranger(at("", "10.1.0.1"))...)
	s.Apply(gone(aService("shop/web", "")))
	want(t, "instances", instances(s, "evil/old"), nil)
	want(t, "claims", len(s.claims), 0)
}

func TestAnAddressIsLostAndWonAsPodsComeAndGo(t *testing.T) {
	s := meshOf(stranger(at("", "10.1.0.9"))...)
	lists := func(when string, instead ...string) {
		t.Helper()
		want(t, when, instances(s, "evil/old"), instead)
		want(t, when+": told", len(s.Notices()) == 0, len(instead) > 0)
	}
	const named = "80 10.1.0.9:8080 plain"
	old := View{Key: key("evil/old")}
	lists("nobody has it", named)
	ch := s.Apply(events(aPod("shop/b", "10.1.0.9")))
	lists("a pod gets it")
	want(t, "changed", ch.Outbounds, []View{old})
	s.Apply(events(aPod("shop/b", "10.1.0.9", func(p *model.Pod) { p.Finished = true })))
	lists("the pod has ended", named)
	s.Apply(events(aPod("shop/b", "10.1.0.9")))
	s.Apply(events(aPod("shop/b", "10.1.0.8")))
	lists("the pod has another one", named)
	s.Apply(events(aPod("shop/b", "10.1.0.9", func(p *model.Pod) { p.HostNetwork = true })))
	lists("it is the host's", named)
	s.Apply(events(aPod("shop/b", "10.1.0.9")))
	ch = s.Apply(gone(aPod("shop/b", "10.1.0.9")))
	lists("the pod is gone", named)
	want(t, "changed back", ch.Outbounds, []View{old})
}

func TestAServiceOfAPodsNamespaceGoesBeforeAnOlderOneAtTheSameListener(t *testing.T) {
	facts := stranger(at("", "10.9.0.1"))
	s := New(Options{Unredirected: true})
	s.Apply(events(facts...))
	want(t, "the pod's", instances(s, "shop/web"), []string{"80 10.1.0.1:8080"})
	want(t, "the other", instances(s, "evil/old"), nil)
}
