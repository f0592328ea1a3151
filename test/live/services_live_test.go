package live

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestNoRequestFailsWhileOtherServicesComeAndGo(t *testing.T) {
	t.Parallel() // it mostly waits
	w := start(t)
	pod := w.pod("app-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(pod))
	load := w.load(catalog)

	for i := range 30 {
		name := fmt.Sprint("extra-", i)
		extra := w.service(name)
		w.slice(name, ready(pod))
		w.answers(extra)
		w.policy(name, generation(i))
		eventually(t, "the policy has effect", func() bool { return w.ask(extra).generation == fmt.Sprint(i) })
		if i%2 == 0 { // the order in which a person deletes is any
			w.deleteService(name)
			w.deleteSlice(name + "-http")
			w.deletePolicy(name)
		} else {
			w.deletePolicy(name)
			w.deleteSlice(name + "-http")
			w.deleteService(name)
		}
		w.refuses(extra)
	}
	// Clusters go a while after the listeners that used them.
	eventually(t, "no cluster of the Services is left in the sidecar", func() bool { return !strings.Contains(w.admin(w.web, "/clusters"), "extra-") })
	load.finish()
}

func TestNoRequestFailsWhileAServicesEndpointsChange(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1"), w.pod("catalog-2")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	load := w.load(catalog)

	for range 6 {
		w.slice("catalog", ready(one, two))
		load.untilFrom(two)
		w.slice("catalog", ready(two))
		load.untilOnly(two)
		w.slice("catalog", ready(two, one))
		load.untilFrom(one)
		w.slice("catalog", ready(one))
		load.untilOnly(one)
	}
	// One address in two slices, as while Kubernetes moves it, and then in the other alone.
	w.sliceNamed("catalog-moved", "catalog", "http", ready(one, two))
	load.untilFrom(two)
	w.deleteSlice("catalog-http")
	load.next(50)
	load.finish()
}

func TestNoRequestFailsWhileAServiceIsRenamedOrRetyped(t *testing.T) {
	w := start(t)
	one := w.pod("catalog-1")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one))
	load := w.load(catalog)

	// The slices say the new name first: between the two writes no endpoint would have a Service port's name, for
	// kube-proxy as well.
	w.sliceNamed("catalog-web", "catalog", "http-web", ready(one))
	w.service("catalog", func(s *corev1.Service) { s.Spec.Ports[0].Name = "http-web" })
	w.deleteSlice("catalog-http")
	load.next(30)
	w.service("catalog", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http-more", Port: servicePort + 1})
		s.Spec.Ports[0].Name = "http-web"
	})
	load.next(30)
	for _, affinity := range []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone} {
		w.service("catalog", func(s *corev1.Service) {
			s.Spec.Ports[0].Name = "http-web"
			s.Spec.SessionAffinity = affinity
		})
		load.next(30)
	}
	load.finish()
}

func TestAServiceMadeAgainAnswersAtItsNewAddressOnly(t *testing.T) {
	w := start(t)
	one, other := w.pod("catalog-1"), w.pod("other-1")
	before, bystander := w.service("catalog"), w.service("bystander")
	w.slice("catalog", ready(one))
	w.slice("bystander", ready(other))
	w.answers(before)
	load := w.load(bystander)

	for range 5 {
		w.deleteService("catalog")
		// Its address is somebody else's at once, so that it gets another one.
		heir := w.service("heir", addressed(before))
		w.slice("heir", ready(other))
		after := w.service("catalog")
		if after == before {
			t.Fatalf("the API server gave %v to two Services", before)
		}
		w.answers(after)
		if a := w.ask(after); a.pod != one.name {
			t.Errorf("at its new address catalog is answered by %q", a.pod)
		}
		eventually(t, "the old address is the other Service's", func() bool { return w.ask(heir).pod == other.name })
		w.deleteService("heir")
		w.refuses(before)
		before = after
	}
	load.next(50)
	load.finish()
}

func TestAPodThatInheritsAnAddressGetsNoneOfItsPredecessorsRequests(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1"), w.pod("catalog-2")
	catalog, other := w.service("catalog"), w.service("other")
	w.slice("catalog", ready(one))
	load := w.load(catalog)
	w.slice("catalog", ready(one, two))
	load.untilFrom(two)

	// The pod is gone, though its slice still lists it, and another one has its address.
	w.deletePod(two.name)
	load.untilOnly(one)
	two.stop()
	heir := w.podAt(two.address, "other-1")
	w.slice("other", ready(heir))
	w.answers(other)
	if a := w.ask(other); a.pod != heir.name {
		t.Errorf("other is answered by %q", a.pod)
	}
	if got := pods(load.next(50)); got[one.name] < 50 {
		t.Errorf("catalog is answered by %v", got)
	}
	w.slice("catalog", ready(one))
	if got := pods(load.next(50)); got[one.name] < 50 {
		t.Errorf("catalog is answered by %v", got)
	}
	load.finish()
}

func TestTerminatingEndpointsGetNoNewRequestsWhileAReadyOneIsLeft(t *testing.T) {
	w := start(t)
	one, two := w.pod("catalog-1"), w.pod("catalog-2")
	catalog := w.service("catalog")
	w.slice("catalog", ready(one, two))
	load := w.load(catalog)
	load.untilFrom(one)
	load.untilFrom(two)

	w.slice("catalog", append(ending(one), ready(two)...))
	load.untilOnly(two)
	w.slice("catalog", ending(one, two))
	load.untilFrom(one) // they are better than nothing
	w.slice("catalog", append(ready(one), ending(two)...))
	load.untilOnly(one)
	w.slice("catalog", ending(one))
	load.next(50)
	load.finish()

	w.slice("catalog", nil)
	eventually(t, "a Service without endpoints answers 503", func() bool { return w.ask(catalog).status == http.StatusServiceUnavailable })
}
