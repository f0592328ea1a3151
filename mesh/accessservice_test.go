package mesh

import (
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

const webAccess = "kind: Access\nservice: web\nmtls: strict\nrules: [{from: [x/y], ports: [80]}]\n"

func targeting(target uint16, name string) func(*model.Service) {
	return func(s *model.Service) { s.Ports[0].Target, s.Ports[0].TargetName = target, name }
}

func labeled(app string) func(*model.Pod) {
	return func(p *model.Pod) { p.Labels = model.Labels{{Key: "app", Value: app}} }
}

func portNamed(name string, number uint16) func(*model.Pod) {
	return func(p *model.Pod) { p.Ports = []model.PodPort{{Name: name, Number: number}} }
}

// protection says in one line what the port of a pod takes.
func protection(t *testing.T, s *State, port uint16) string {
	t.Helper()
	in := portOf(t, s, "shop/a", port)
	if in.MTLS == model.MTLSStrict {
		return "strict, " + accessText(in.Access)
	}
	return accessText(in.Access)
}

func TestAccessOfAServiceHoldsBeforeASliceNamesThePod(t *testing.T) {
	const guarded = "strict, allow x/y; closed"
	for _, c := range []struct {
		name    string
		service *model.Service
		pod     *model.Pod
		port    uint16
		want    string
	}{
		{"a number", aService("shop/web", "10.96.0.1", targeting(8080, "")), aPod("shop/a", "10.1.0.1"), 8080, guarded},
		{"a port that the pod does not declare", aService("shop/web", "10.96.0.1", targeting(9000, "")), aPod("shop/a", "10.1.0.1"), 9000, guarded},
		{"a name", aService("shop/web", "10.96.0.1", targeting(0, "main")), aPod("shop/a", "10.1.0.1", portNamed("main", 7000)), 7000, guarded},
		{"a name of no port", aService("shop/web", "10.96.0.1", targeting(0, "main")), aPod("shop/a", "10.1.0.1"), 8080, "open"},
		{"another pod", aService("shop/web", "10.96.0.1", targeting(8080, "")), aPod("shop/a", "10.1.0.1", labeled("db")), 8080, "open"},
		{"no selector", aService("shop/web", "10.96.0.1", targeting(8080, ""), func(s *model.Service) { s.Selector = nil }),
			aPod("shop/a", "10.1.0.1"), 8080, "open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := []any{c.service, c.pod, aPolicy("shop/p", webAccess)}
			for first := range facts { // whichever comes last has to reach the pod
				s := meshOf()
				for i := range facts {
					s.Apply(events(facts[(first+i)%len(facts)]))
				}
				want(t, "access", protection(t, s, c.port), c.want)
			}
		})
	}
}

func TestAccessOfAServiceFollowsItsSelectorAndThePodsLabels(t *testing.T) {
	service := aService("shop/web", "10.96.0.1", targeting(8080, ""))
	other := aService("shop/web", "10.96.0.1", targeting(8080, ""), func(s *model.Service) { s.Selector = model.Labels{{Key: "app", Value: "db"}} })
	s := meshOf(service, aPod("shop/a", "10.1.0.1"), aPolicy("shop/p", webAccess))
	s.Apply(events(other))
	want(t, "with another selector", protection(t, s, 8080), "open")
	s.Apply(events(aPod("shop/a", "10.1.0.1", labeled("db"))))
	want(t, "with the label", protection(t, s, 8080), "strict, allow x/y; closed")
	s.Apply(gone(aPolicy("shop/p", webAccess)))
	want(t, "without the document", protection(t, s, 8080), "open")
}

func TestAccessOfADeletedServiceLetsNobodyIn(t *testing.T) {
	service := aService("shop/web", "10.96.0.1", targeting(8080, ""))
	slice := aSlice("shop/web-1", "web", at("a", "10.1.0.1"))
	s := meshOf(service, slice, aPod("shop/a", "10.1.0.1"), aPolicy("shop/p", webAccess))
	s.Apply(gone(service))
	want(t, "with its slice", protection(t, s, 8080), "strict, closed")
	s.Apply(gone(slice))
	want(t, "without its slice", protection(t, s, 8080), "strict, closed")
	want(t, "problems", problems(s, "shop/p"), []string{
		"-:2:10: HDL1611: warning: service: there is no Service shop/web any more: this document lets nobody call the pods that it selected; correct the name, or create the Service"})
	s.Apply(gone(aPod("shop/a", "10.1.0.1")))
	s.Apply(events(aPod("shop/a", "10.1.0.1")))
	want(t, "a new pod", protection(t, s, 8080), "strict, closed")
	s.Apply(events(aPolicy("shop/p", "kind: Access\nservice: web\nports: {80: strict}\naction: deny\nrules: [{methods: [PUT], ports: [81]}]\n")))
	want(t, "with another text", protection(t, s, 8080), "strict, deny PUT; open")
	s.Apply(events(aPolicy("shop/p", webAccess), service))
	want(t, "with the Service", protection(t, s, 8080), "strict, allow x/y; closed")
	s.Apply(gone(service, aPolicy("shop/p", webAccess)))
	want(t, "without the document", protection(t, s, 8080), "open")
	want(t, "remembered", len(s.protected), 0)
}

func TestASliceOfAServiceThatWasNeverSeenIsEnoughToClose(t *testing.T) {
	s := meshOf(aSlice("shop/web-1", "web", at("a", "10.1.0.1")), aPod("shop/a", "10.1.0.1"), aPolicy("shop/p", webAccess))
	want(t, "access", protection(t, s, 8080), "strict, closed")
	want(t, "other ports", accessAt(t, s, "shop/a", 0), "open")
}

func TestAChangeOfAProtectedServiceLooksAtItsPodsAlone(t *testing.T) {
	s := shop(aPolicy("shop/p", webAccess))
	for _, e := range events(aService("shop/web", "10.96.0.1", targeting(9000, ""))) {
		s.take(&e)
	}
	want(t, "pods", sortedKeys(s.dirty.workloads), []model.Key{key("shop/a")})
}
