package mesh

import (
	"net/netip"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

var web = key("shop/web")

// Two pods of one Service, each in a slice of its own.
func twoPods() []any {
	return []any{
		aService("shop/web", "10.96.0.1"),
		aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aSlice("shop/web-2", "web", at("b", "10.1.0.2")),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
	}
}

func TestSeveralSlicesOfAServiceAreOneList(t *testing.T) {
	s := meshOf(twoPods()...)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:8080"})
}

func TestAnAddressInTwoSlicesCountsOnceAndTheReadyOneWins(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1"), aPod("shop/a", "10.1.0.1"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1", notReady)),
		aSlice("shop/web-2", "web", at("a", "10.1.0.1")),
	)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080"})
}

func TestADualStackPodCountsOnceInTheFamilyOfTheServicesFirstAddress(t *testing.T) {
	facts := func(first, second string) []any {
		svc := aService("shop/web", first)
		svc.Addresses = append(svc.Addresses, addr(second))
		both := aPod("shop/a", "10.1.0.1")
		both.Addresses = append(both.Addresses, addr("fd00::1"))
		return []any{svc, both, aPod("shop/b", "10.1.0.2"),
			aSlice("shop/web-4", "web", at("a", "10.1.0.1"), at("b", "10.1.0.2")),
			aSlice("shop/web-6", "web", at("a", "fd00::1")),
		}
	}
	want(t, "IPv4 first", where(meshOf(facts("10.96.0.1", "fd00:96::1")...), "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:8080"})
	want(t, "IPv6 first", where(meshOf(facts("fd00:96::1", "10.96.0.1")...), "shop/web"), []string{"10.1.0.2:8080", "[fd00::1]:8080"})
}

func TestHandMadeAddressesOfTheOtherFamilyAreUsedOnlyAlone(t *testing.T) {
	svc := aService("shop/web", "10.96.0.1")
	six := aSlice("shop/web-6", "web", at("", "fd00::1"))
	s := meshOf(svc, six)
	want(t, "alone", where(s, "shop/web"), []string{"[fd00::1]:8080 plain"})
	s.Apply(events(aSlice("shop/web-4", "web", at("", "192.0.2.1"))))
	want(t, "beside IPv4", where(s, "shop/web"), []string{"192.0.2.1:8080 plain"})
}

func TestANamedTargetPortMayBeAnotherNumberInEachPod(t *testing.T) {
	other := aSlice("shop/web-2", "web", at("b", "10.1.0.2"))
	other.Ports[0].Number = 9090
	s := meshOf(
		aService("shop/web", "10.96.0.1"), aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1")), other,
	)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:9090"})
	want(t, "ports of b", numbers(s.Workload(key("shop/b"))), []uint16{8080, 9090})
}

func TestPortsAreJoinedByNameAndOneMayHaveNone(t *testing.T) {
	two := aService("shop/web", "10.96.0.1", ports(model.Port{Name: "http", Number: 80}, model.Port{Name: "admin", Number: 81}))
	slice := aSlice("shop/web-1", "web", at("a", "10.1.0.1"))
	slice.Ports = []model.SlicePort{{Name: "admin", Number: 9000}, {Name: "http", Number: 8080}, {Name: "other", Number: 1}}
	bare := aService("shop/bare", "10.96.0.2", ports(model.Port{Number: 80}))
	bareSlice := aSlice("shop/bare-1", "bare", at("a", "10.1.0.1"))
	bareSlice.Ports = []model.SlicePort{{Number: 8080}}
	s := meshOf(two, bare, aPod("shop/a", "10.1.0.1"), slice, bareSlice)

	got := s.Endpoints(web).Ports
	want(t, "http", got[0].Endpoints[0].Address, netip.MustParseAddrPort("10.1.0.1:8080"))
	want(t, "admin", got[1].Endpoints[0].Address, netip.MustParseAddrPort("10.1.0.1:9000"))
	want(t, "unnamed", where(s, "shop/bare"), []string{"10.1.0.1:8080"})
}

func TestTerminatingEndpointsGetNoNewRequestsWhileAReadyOneIsLeft(t *testing.T) {
	pods := []any{aService("shop/web", "10.96.0.1"), aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"), aPod("shop/c", "10.1.0.3")}
	s := meshOf(append(pods, aSlice("shop/web-1", "web",
		at("a", "10.1.0.1"), at("b", "10.1.0.2", terminating), at("c", "10.1.0.3", terminating, notReady)))...)
	want(t, "with a ready one", where(s, "shop/web"), []string{"10.1.0.1:8080"})

	s.Apply(events(aSlice("shop/web-1", "web",
		at("a", "10.1.0.1", notReady), at("b", "10.1.0.2", terminating), at("c", "10.1.0.3", terminating, notReady))))
	want(t, "without", where(s, "shop/web"), []string{"10.1.0.2:8080 draining"})
}

func TestANodeLocalServiceFallsBackToTerminatingEndpointsOnEachNode(t *testing.T) {
	on := func(node string) func(*model.SliceEndpoint) { return func(e *model.SliceEndpoint) { e.Node = node } }
	s := meshOf(
		aService("shop/web", "10.96.0.1", func(s *model.Service) { s.NodeLocal = true }),
		aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"), aPod("shop/c", "10.1.0.3"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1", on("n1")), at("b", "10.1.0.2", on("n1"), terminating),
			at("c", "10.1.0.3", on("n2"), terminating)),
	)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.3:8080 draining"})
	want(t, "node local", s.Endpoints(web).NodeLocal, true)
}

func TestADeletedPodLeavesAtOnceThoughItsSliceStillSaysReady(t *testing.T) {
	s := meshOf(twoPods()...)
	ch := s.Apply(events(aPod("shop/a", "10.1.0.1", deleted)))
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.2:8080"})
	want(t, "changed", ch.Endpoints, []model.Key{web})

	s.Apply(events(aPod("shop/b", "10.1.0.2", deleted)))
	want(t, "the last ones go on while they serve", where(s, "shop/web"), []string{"10.1.0.1:8080 draining", "10.1.0.2:8080 draining"})
	s.Apply(gone(aPod("shop/a", "10.1.0.1")))
	want(t, "gone", where(s, "shop/web"), []string{"10.1.0.2:8080 draining"})
}

func TestPublishNotReadyAddressesMakesReadinessNotCount(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1", func(s *model.Service) { s.Unready = true }), aPod("shop/a", "10.1.0.1"),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1", notReady)),
	)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080"})
}

func TestAnAddressThatAnotherPodHasByNowIsNotCalled(t *testing.T) {
	s := meshOf(twoPods()...)
	// a is gone and another Service's pod has its address; the slice is behind.
	s.Apply(append(gone(aPod("shop/a", "10.1.0.1")), events(aPod("bank/vault", "10.1.0.1"))...))
	want(t, "pod gone", where(s, "shop/web"), []string{"10.1.0.2:8080"})

	// b was made again under its name, as StatefulSets do.
	again := aPod("shop/b", "10.1.0.9")
	again.UID = "uid-b2"
	s.Apply(events(again))
	want(t, "another pod of that name", where(s, "shop/web"), []string{})

	slice := aSlice("shop/web-2", "web", at("b", "10.1.0.9"))
	slice.Endpoints[0].PodUID = "uid-b2"
	s.Apply(events(slice))
	want(t, "slice caught up", where(s, "shop/web"), []string{"10.1.0.9:8080"})
}

func TestAnEndedPodIsNotCalled(t *testing.T) {
	s := meshOf(twoPods()...)
	s.Apply(events(aPod("shop/a", "10.1.0.1", func(p *model.Pod) { p.Finished = true })))
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.2:8080"})
}

func TestAddressesThatNoSidecarReceivesOnAreCalledInPlain(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1"),
		aPod("shop/host", "192.0.2.1", func(p *model.Pod) { p.HostNetwork = true }),
		aPod("shop/two-nets", "10.1.0.2"),
		aPod("shop/bare", "10.1.0.3", unmeshed),
		aSlice("shop/web-1", "web", at("host", "192.0.2.1"), at("two-nets", "172.16.0.2"), at("bare", "10.1.0.3")),
		aSlice("shop/hand-made", "web", at("", "198.51.100.7")),
	)
	want(t, "endpoints", where(s, "shop/web"),
		[]string{"10.1.0.3:8080 plain", "172.16.0.2:8080 plain", "192.0.2.1:8080 plain", "198.51.100.7:8080 plain"})
	want(t, "workload of a pod in the host's network", s.Workload(key("shop/host")), nil)
}

func TestZonesComeFromTheSliceElseFromTheNode(t *testing.T) {
	s := meshOf(
		&model.Node{Name: "n1", Zone: "z1", Region: "r1"},
		aService("shop/web", "10.96.0.1", func(s *model.Service) { s.Prefer = model.PreferZone }),
		aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aSlice("shop/web-1", "web",
			at("a", "10.1.0.1", func(e *model.SliceEndpoint) { e.Node = "n1" }),
			at("b", "10.1.0.2", func(e *model.SliceEndpoint) { e.Node, e.Zone, e.ForZones = "n1", "z9", []string{"z1", "z9"} })),
	)
	got := s.Endpoints(web)
	want(t, "preference", got.Prefer, model.PreferZone)
	a, b := got.Ports[0].Endpoints[0], got.Ports[0].Endpoints[1]
	want(t, "of the node", a.Zone+" "+a.Region, "z1 r1")
	want(t, "of the slice", b.Zone+" "+b.Region, "z9 r1")
	want(t, "hints", b.ForZones, []string{"z1", "z9"})

	ch := s.Apply(events(&model.Node{Name: "n1", Zone: "z2", Region: "r1"}))
	want(t, "moved node", ch.Endpoints, []model.Key{web})
	want(t, "pods on it", ch.Workloads, []model.Key{key("shop/a"), key("shop/b")})
	want(t, "zone", s.Endpoints(web).Ports[0].Endpoints[0].Zone, "z2")
	want(t, "location", s.Workload(key("shop/a")).Location, model.Location{Node: "n1", Zone: "z2", Region: "r1"})
}

func TestAHealthReportHoldsForEveryCallerUntilItEndsOrThePodGoes(t *testing.T) {
	s := meshOf(append(twoPods(), aPolicy("shop/web",
		"kind: Traffic\nservice: web\noutlierDetection: {maxEjectionPercent: 50}\nhealthCheck: {path: /}\n"))...)
	report := func(port uint16, healthy bool, reason model.Finding) Changes {
		return s.Apply(events(&model.HealthReport{Pod: key("shop/a"), Port: port, Healthy: healthy, Reason: reason}))
	}
	bad := []string{"10.1.0.1:8080 unhealthy", "10.1.0.2:8080"}
	good := []string{"10.1.0.1:8080", "10.1.0.2:8080"}

	want(t, "another port", report(9999, false, model.ActiveCheck), Changes{})
	want(t, "what changes", report(8080, false, model.ActiveCheck), Changes{Endpoints: []model.Key{web}})
	want(t, "check failed", where(s, "shop/web"), bad)
	report(8080, false, model.FailureStreak)
	report(8080, true, model.ActiveCheck)
	want(t, "the streak goes on", where(s, "shop/web"), []string{"10.1.0.1:8080 failing", "10.1.0.2:8080"})
	report(8080, true, model.FailureStreak)
	want(t, "healthy again", where(s, "shop/web"), good)

	report(8080, false, model.ActiveCheck)
	again := aPod("shop/a", "10.1.0.1")
	s.Apply(gone(again))
	s.Apply(events(again))
	want(t, "a pod made again", where(s, "shop/web"), good)
	want(t, "memory", len(s.health), 0)
}

func TestAFindingDoesNotOutliveItsCheck(t *testing.T) {
	checked := "kind: Traffic\nservice: web\nhealthCheck: {path: /}\n"
	s := meshOf(append(twoPods(), aPolicy("shop/web", checked))...)
	report := events(&model.HealthReport{Pod: key("shop/a"), Port: 8080, Reason: model.ActiveCheck})
	bad, good := []string{"10.1.0.1:8080 unhealthy", "10.1.0.2:8080"}, []string{"10.1.0.1:8080", "10.1.0.2:8080"}
	s.Apply(report)
	want(t, "the check failed", where(s, "shop/web"), bad)

	ch := s.Apply(events(aPolicy("shop/web", "kind: Traffic\nservice: web\n")))
	want(t, "Services whose endpoints changed", ch.Endpoints, []model.Key{web})
	want(t, "nobody checks", where(s, "shop/web"), good)
	want(t, "a late report", s.Apply(report), Changes{})
	want(t, "after a late report", where(s, "shop/web"), good)
	want(t, "memory", len(s.health), 0)
	s.Apply(events(aPolicy("shop/web", checked)))
	want(t, "checked again, with no result yet", where(s, "shop/web"), good)

	s.Apply(report)
	s.Apply(events(aPolicy("shop/web", "kind: Traffic\nservice: web\nhealthCheck: {path: /other}\n")))
	want(t, "another check of the same port, with no result yet", where(s, "shop/web"), bad)
	s.Apply(events(aPod("shop/a", "10.1.0.1", unmeshed)))
	want(t, "the pod has no sidecar now", where(s, "shop/web"), []string{"10.1.0.1:8080 plain", "10.1.0.2:8080"})
}

func TestFailureStreaksTakeAwayNoMoreEndpointsThanOutlierDetectionAllows(t *testing.T) {
	s := meshOf(append(twoPods(), aPolicy("shop/web", "kind: Traffic\nservice: web\noutlierDetection: {maxEjectionPercent: 50}\n"))...)
	for _, pod := range []string{"shop/a", "shop/b"} {
		s.Apply(events(&model.HealthReport{Pod: key(pod), Port: 8080, Reason: model.FailureStreak}))
	}
	want(t, "both fail", where(s, "shop/web"), []string{"10.1.0.1:8080 failing", "10.1.0.2:8080"})

	s.Apply(gone(aPolicy("shop/web", "")))
	want(t, "without outlier detection", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:8080"})
}

func TestAServiceMadeAgainHasItsNewAddressOnly(t *testing.T) {
	s := meshOf(twoPods()...)
	ch := s.Apply(gone(aService("shop/web", "10.96.0.1")))
	want(t, "changed", ch, Changes{
		Outbounds: []View{{Key: web}}, Endpoints: []model.Key{web},
		Workloads: []model.Key{key("shop/a"), key("shop/b")},
	})
	if s.Outbound(View{Key: web}) != nil || s.Endpoints(web) != nil {
		t.Error("views of a deleted Service are left")
	}
	s.Apply(events(aService("shop/web", "10.96.0.77")))
	want(t, "addresses", s.Outbound(View{Key: web}).Ports[0].Addresses, []netip.Addr{addr("10.96.0.77")})
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:8080"})
}

func TestAnExternalNameHasNoViewsAndNoNotice(t *testing.T) {
	s := meshOf(aService("shop/web", "", func(s *model.Service) { s.Kind, s.ExternalName = model.ExternalName, "example.com" }))
	if s.Outbound(View{Key: web}) != nil || s.Endpoints(web) != nil || len(s.Notices()) > 0 {
		t.Errorf("got views or notices: %v", s.Notices())
	}
}

func TestEndpointsKnowTheirPods(t *testing.T) {
	s := meshOf(twoPods()...)
	want(t, "endpoint", s.Endpoints(web).Ports[0].Endpoints[0], model.Endpoint{
		Address: netip.MustParseAddrPort("10.1.0.1:8080"), Healthy: true, Meshed: true, Node: "n1",
		Pod: model.Key{Namespace: "shop", Name: "a"}, Account: "default", Labels: model.Labels{{Key: "app", Value: "web"}},
	})
}

func numbers(w *model.Workload) []uint16 {
	var all []uint16
	for _, p := range w.Ports {
		all = append(all, p.Number)
	}
	return all
}
