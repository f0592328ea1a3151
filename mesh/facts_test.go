package mesh

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/heddle-mesh/heddle/model"
)

// The helpers here write facts in one line each, named namespace/name as people do.

func key(s string) model.Key {
	ns, name, _ := strings.Cut(s, "/")
	return model.Key{Namespace: ns, Name: name}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func day(n int) time.Time { return time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC) }

// service is a Service with one port, http 80, and an address.
func aService(name, address string, change ...func(*model.Service)) *model.Service {
	svc := &model.Service{
		Key: key(name), UID: "uid-" + name, Created: day(1),
		Ports:    []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, Declared: true}},
		Selector: model.Labels{{Key: "app", Value: key(name).Name}},
	}
	if address != "" {
		svc.Addresses = []netip.Addr{addr(address)}
	}
	for _, c := range change {
		c(svc)
	}
	return svc
}

func ports(ps ...model.Port) func(*model.Service) { return func(s *model.Service) { s.Ports = ps } }

// aSlice is a slice of a Service with one target port, http 8080.
func aSlice(name, service string, endpoints ...model.SliceEndpoint) *model.Slice {
	return &model.Slice{
		Key: key(name), Service: service,
		Ports: []model.SlicePort{{Name: "http", Number: 8080}}, Endpoints: endpoints,
	}
}

// at is a ready endpoint of a pod (aPod of the same name), or of none if the name is empty.
func at(pod, address string, change ...func(*model.SliceEndpoint)) model.SliceEndpoint {
	e := model.SliceEndpoint{Address: addr(address), Ready: true, Serving: true, Pod: pod}
	if pod != "" {
		e.PodUID = "uid-" + pod
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func notReady(e *model.SliceEndpoint)    { e.Ready, e.Serving = false, false }
func terminating(e *model.SliceEndpoint) { e.Ready, e.Terminating = false, true }

// aPod is a meshed pod with one declared port, 8080.
func aPod(name, address string, change ...func(*model.Pod)) *model.Pod {
	pod := &model.Pod{
		Key: key(name), UID: "uid-" + key(name).Name, ServiceAccount: "default", Node: "n1", Meshed: true,
		Addresses: []netip.Addr{addr(address)},
		Labels:    model.Labels{{Key: "app", Value: "web"}},
		Ports:     []model.PodPort{{Number: 8080}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func unmeshed(p *model.Pod) { p.Meshed = false }
func deleted(p *model.Pod)  { p.Deleted = true }

// events wraps facts; gone wraps facts that are no more.
func events(facts ...any) []model.Event {
	all := make([]model.Event, 0, len(facts))
	for _, f := range facts {
		all = append(all, event(f))
	}
	return all
}

func gone(facts ...any) []model.Event {
	all := events(facts...)
	for i := range all {
		all[i].Gone = true
	}
	return all
}

func event(f any) model.Event {
	switch f := f.(type) {
	case *model.Service:
		return model.Event{Service: f}
	case *model.Slice:
		return model.Event{Slice: f}
	case *model.Pod:
		return model.Event{Pod: f}
	case *model.Node:
		return model.Event{Node: f}
	case *model.Namespace:
		return model.Event{Namespace: f}
	case *model.PolicyText:
		return model.Event{Policy: f}
	case *model.HealthReport:
		return model.Event{Health: f}
	case *model.Refusal:
		return model.Event{Refused: f}
	}
	panic(fmt.Sprintf("%T is no fact", f))
}

// meshOf is a State that knows the facts.
func meshOf(facts ...any) *State {
	s := New(Options{Namespace: "heddle-system"})
	s.Apply(events(facts...))
	return s
}

// where writes the endpoints of a Service's first port as addresses, each with what is special about it.
func where(s *State, service string) []string {
	view := s.Endpoints(key(service))
	if view == nil {
		return nil
	}
	list := []string{}
	for _, e := range view.Ports[0].Endpoints {
		text := e.Address.String()
		switch {
		case !e.Healthy:
			text += " unhealthy"
		case e.Failing:
			text += " failing"
		}
		if e.Draining {
			text += " draining"
		}
		if !e.Meshed {
			text += " plain"
		}
		list = append(list, text)
	}
	return list
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, compareAddresses); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

var compareAddresses = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

// aPolicy is a policy ConfigMap with one document, traffic.yaml.
func aPolicy(name, text string, change ...func(*model.PolicyText)) *model.PolicyText {
	p := &model.PolicyText{Key: key(name), UID: "uid-" + name, Created: day(1),
		Documents: []model.PolicyDocument{{Item: "traffic.yaml", Text: text}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func created(n int) func(*model.PolicyText) {
	return func(p *model.PolicyText) { p.Created = day(n) }
}

// trafficOf is what callers of an audience have for a Service.
func trafficOf(s *State, audience, service string) *model.Traffic {
	return s.Outbound(View{audience, key(service)}).Traffic
}

// problems writes what is wrong with a ConfigMap's traffic.yaml, each with its place.
func problems(s *State, configMap string) []string {
	var all []string
	for _, p := range s.Policies() {
		if p.ConfigMap == key(configMap) {
			for _, problem := range p.Problems {
				all = append(all, problem.String())
			}
		}
	}
	return all
}

// targetsOf writes where the routes of a Service's first port send, in the words of the targets.
func targetsOf(s *State, audience, service string) []string {
	var all []string
	for _, r := range s.Outbound(View{audience, key(service)}).Ports[0].Routes {
		for _, t := range r.To {
			all = append(all, targetText(t))
		}
		for _, m := range r.Mirror {
			all = append(all, "mirror "+targetText(m.Target))
		}
	}
	return all
}

func targetText(t model.Target) string {
	text := fmt.Sprintf("%s:%d[%s] %d", t.Service, t.Port, t.Subset, t.Weight)
	if t.Missing != "" {
		text += " missing: " + t.Missing
	}
	return text
}
