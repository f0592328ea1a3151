package mesh

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

func hops(s *State, service string) []model.Hop {
	var all []model.Hop
	for _, p := range s.Outbound(View{Key: key(service)}).Ports {
		all = append(all, p.Hop)
	}
	return all
}

func TestTheHopIsTheMeshsOnlyIfEveryPodHasASidecarAndThePortMayCarryHTTP(t *testing.T) {
	svc := aService("shop/web", "10.96.0.1", ports(
		model.Port{Name: "http", Number: 80, Protocol: model.HTTP}, model.Port{Name: "any", Number: 81}, model.Port{Name: "db", Number: 82, Protocol: model.TCP}))
	slice := aSlice("shop/web-1", "web", at("a", "10.1.0.1"), at("b", "10.1.0.2", notReady))
	slice.Ports = []model.SlicePort{{Name: "http", Number: 8080}, {Name: "any", Number: 8081}, {Name: "db", Number: 8082}}
	s := meshOf(svc, slice)
	want(t, "no pods", hops(s, "shop/web"), []model.Hop{model.HopPlain, model.HopPlain, model.HopPlain})

	s.Apply(events(aPod("shop/a", "10.1.0.1")))
	want(t, "a meshed pod", hops(s, "shop/web"), []model.Hop{model.HopMesh, model.HopMesh, model.HopPlain})

	ch := s.Apply(events(aPod("shop/b", "10.1.0.2", unmeshed)))
	want(t, "an unmeshed pod that is not ready yet", hops(s, "shop/web"), []model.Hop{model.HopPlain, model.HopPlain, model.HopPlain})
	want(t, "changed", ch, Changes{Outbounds: []View{{Key: web}}})
}

func as(account string) func(*model.Pod) {
	return func(p *model.Pod) { p.ServiceAccount = account }
}

func TestTheAccountsOfAllPodsWithASidecarAreKnownBeforeTheyGetRequests(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1"), aPod("shop/a", "10.1.0.1", as("old")), aPod("shop/b", "10.1.0.2", as("old")),
		aPod("shop/c", "10.1.0.3", as("none"), unmeshed), aPod("shop/d", "10.1.0.4", as("other")),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1"), at("c", "10.1.0.3")),
	)
	accounts := func() []model.Key { return s.Outbound(View{Key: web}).Accounts }
	want(t, "accounts", accounts(), []model.Key{key("shop/old")})

	ch := s.Apply(events(aSlice("shop/web-2", "web", at("b", "10.1.0.2"))))
	want(t, "another pod of the same account", ch, Changes{Endpoints: []model.Key{web}, Workloads: []model.Key{key("shop/b")}})

	ch = s.Apply(events(aPod("shop/e", "10.1.0.5", as("new")), aSlice("shop/web-3", "web", at("e", "10.1.0.5", notReady))))
	want(t, "a pod of another account, not ready", ch, Changes{Outbounds: []View{{Key: web}}, Workloads: []model.Key{key("shop/e")}})
	want(t, "accounts", accounts(), []model.Key{key("shop/new"), key("shop/old")})

	ch = s.Apply(events(aSlice("shop/web-3", "web", at("e", "10.1.0.5"))))
	want(t, "it becomes ready", ch, Changes{Endpoints: []model.Key{web}})

	s.Apply(gone(aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2")))
	want(t, "those that went", accounts(), []model.Key{key("shop/new")})
}

func TestAnInstanceHasItsPodsAccount(t *testing.T) {
	s := meshOf(
		aService("shop/web", "", func(s *model.Service) { s.Kind = model.Headless }),
		aPod("shop/a", "10.1.0.1", as("one")), aPod("shop/b", "10.1.0.2", as("two")), aPod("shop/c", "10.1.0.3", unmeshed),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1"), at("b", "10.1.0.2"), at("c", "10.1.0.3")),
	)
	var got []string
	for _, i := range s.Outbound(View{Key: web}).Instances {
		got = append(got, i.Account)
	}
	want(t, "accounts", got, []string{"one", "two", ""})
}

func TestTheTrustDomainIsWhatTheOptionsSay(t *testing.T) {
	want(t, "by default", New(Options{}).Settings().TrustDomain, "cluster.local")
	want(t, "given", New(Options{TrustDomain: "prod.example"}).Settings().TrustDomain, "prod.example")
}

func TestOfTwoServicesWithOneAddressTheOlderHasIt(t *testing.T) {
	at := func(name string, d int) *model.Service {
		return aService(name, "10.96.0.1", func(s *model.Service) { s.Created = day(d) })
	}
	older, younger := at("shop/web", 1), at("shop/copy", 2)
	s := meshOf(younger)
	ch := s.Apply(events(older))
	addresses := func(name string) []netip.Addr { return s.Outbound(View{Key: key(name)}).Ports[0].Addresses }
	want(t, "older", addresses("shop/web"), older.Addresses)
	want(t, "younger", addresses("shop/copy"), nil)
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/copy")}, {Key: web}})
	notice := Notice{"Service", key("shop/copy"),
		"an older Service has the address 10.96.0.1:80: calls to it follow that Service's policy; delete one of the two"}
	want(t, "notices", ch.Notices, []Notice{notice})
	want(t, "all notices", s.Notices(), []Notice{notice})

	ch = s.Apply(gone(older))
	want(t, "it comes back", addresses("shop/copy"), younger.Addresses)
	want(t, "notices", s.Notices(), nil)
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/copy")}, {Key: web}})
}

func TestAHeadlessServiceTakesNoServicesAddress(t *testing.T) {
	headless := aService("evil/db", "", func(s *model.Service) { s.Kind, s.Created = model.Headless, day(1) })
	s := meshOf(headless, &model.Slice{Key: key("evil/x"), Service: "db", Ports: []model.SlicePort{{Name: "http", Number: 80}},
		Endpoints: []model.SliceEndpoint{at("", "10.96.0.1"), at("", "10.1.0.9")}})
	want(t, "before", instances(s, "evil/db"), []string{"80 10.1.0.9:80 plain", "80 10.96.0.1:80 plain"})
	younger := aService("shop/web", "10.96.0.1", func(s *model.Service) { s.Created = day(2) })
	s.Apply(events(younger))
	want(t, "after", instances(s, "evil/db"), []string{"80 10.1.0.9:80 plain"})
	want(t, "its own", s.Outbound(View{Key: web}).Ports[0].Addresses, younger.Addresses)
}

func instances(s *State, service string) []string {
	var all []string
	for _, i := range s.Outbound(View{Key: key(service)}).Instances {
		text := fmt.Sprintf("%d %s", i.Port, i.Address)
		if !i.Meshed {
			text += " plain"
		}
		all = append(all, text)
	}
	return all
}

func headless(s *model.Service) { s.Kind = model.Headless }

func TestEachPodOfAHeadlessServiceIsAnInstanceInEveryFamily(t *testing.T) {
	pod := aPod("shop/a", "10.1.0.1")
	pod.Addresses = append(pod.Addresses, addr("fd00::1"))
	s := meshOf(
		aService("shop/web", "", headless), pod, aPod("shop/b", "10.1.0.2", unmeshed), aPod("shop/c", "10.1.0.3"),
		aSlice("shop/web-4", "web", at("a", "10.1.0.1"), at("b", "10.1.0.2", terminating), at("c", "10.1.0.3", notReady)),
		aSlice("shop/web-6", "web", at("a", "fd00::1")),
	)
	want(t, "instances", instances(s, "shop/web"), []string{"80 10.1.0.1:8080", "80 10.1.0.2:8080 plain", "80 [fd00::1]:8080"})
	want(t, "endpoints count a pod once", where(s, "shop/web"), []string{"10.1.0.1:8080"})
}

func TestAHeadlessServiceWithoutASelectorHasTheInstancesOfItsSlices(t *testing.T) {
	s := meshOf(
		aService("shop/web", "", headless, func(s *model.Service) { s.Selector = nil }),
		aSlice("shop/web-4", "web", at("", "192.0.2.1")),
	)
	want(t, "instances", instances(s, "shop/web"), []string{"80 192.0.2.1:8080 plain"})
}

func TestTwoHeadlessServicesOfOnePodShareItsAddressByAge(t *testing.T) {
	s := meshOf(
		aService("shop/web", "", headless, func(s *model.Service) { s.Created = day(2) }),
		aService("shop/peers", "", headless),
		aPod("shop/a", "10.1.0.1"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
		aSlice("shop/peers-1", "peers", at("a", "10.1.0.1")),
	)
	want(t, "older", instances(s, "shop/peers"), []string{"80 10.1.0.1:8080"})
	want(t, "younger", instances(s, "shop/web"), nil)
	want(t, "that is usual and no notice", s.Notices(), nil)

	ch := s.Apply(gone(aSlice("shop/peers-1", "peers")))
	want(t, "younger after", instances(s, "shop/web"), []string{"80 10.1.0.1:8080"})
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/peers")}, {Key: web}})
}

func TestPortsThatTheMeshLeavesAloneAreNamed(t *testing.T) {
	s := meshOf(aService("shop/web", "10.96.0.1", func(s *model.Service) { s.Ignored = []string{"53/UDP", "9/SCTP"} }))
	want(t, "notices", s.Notices(), []Notice{{"Service", web,
		"the mesh carries TCP only: ports 53/UDP, 9/SCTP go past it as without a mesh"}})
}

func TestAPortOfUnknownProtocolIsToldWithItsRemedy(t *testing.T) {
	s := meshOf(aService("shop/web", "10.96.0.1", ports(model.Port{Number: 7777}, model.Port{Number: 3306, Protocol: model.TCP})))
	want(t, "notices", s.Notices(), []Notice{{"Service", web,
		"port 7777 does not say what it carries: until a client sends its first bytes, for at most 100ms, nothing is passed on; begin the port's name with http-, grpc- or tcp-, or set appProtocol"}})
	s.Apply(events(aPolicy("heddle-system/mesh", "kind: Mesh\ndetectionTimeout: 20ms")))
	want(t, "one notice, with the new timeout", strings.Contains(s.Notices()[0].Text, "20ms") && len(s.Notices()) == 1, true)
}
