package mesh

import (
	"fmt"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

// town is a mesh of n Services with k meshed pods each, in one namespace per ten Services. Service i has a policy;
// one in ten routes a share to the next Service.
func town(n, k int) []any {
	var facts []any
	for i := range n {
		ns, name := fmt.Sprintf("ns%d", i/10), fmt.Sprintf("s%d", i)
		svc := ns + "/" + name
		facts = append(facts, aService(svc, fmt.Sprintf("10.96.%d.%d", i/200, i%200+1)))
		slice := aSlice(svc+"-1", name)
		for j := range k {
			pod, address := fmt.Sprintf("%s-%d", name, j), fmt.Sprintf("10.%d.%d.%d", i/200+1, i%200, j+1)
			facts = append(facts, aPod(ns+"/"+pod, address))
			slice.Endpoints = append(slice.Endpoints, at(pod, address))
		}
		text := "kind: Traffic\nservice: " + name + "\ntimeout: 2s\n"
		if i%10 == 0 {
			text += fmt.Sprintf("routes: [{name: split, to: [{service: %s, weight: 9}, {service: s%d}]}]\n", name, i+1)
		}
		facts = append(facts, slice, aPolicy(svc, text))
	}
	return facts
}

func TestAChangeTouchesOnlyTheViewsThatDependOnIt(t *testing.T) {
	view := func(name string) View { return View{Key: key(name)} }
	pods := []model.Key{key("ns1/s11-0"), key("ns1/s11-1"), key("ns1/s11-2")}
	slice := func(change func(*model.SliceEndpoint)) *model.Slice {
		return aSlice("ns1/s11-1", "s11", at("s11-0", "10.1.11.1"), at("s11-1", "10.1.11.2"), at("s11-2", "10.1.11.3", change))
	}
	same := func(*model.SliceEndpoint) {}
	tests := []struct {
		name   string
		events []model.Event
		want   Changes
	}{
		{"an endpoint is not ready", events(slice(notReady)), Changes{Endpoints: []model.Key{key("ns1/s11")}}},
		{"it is ready again", events(slice(same)), Changes{Endpoints: []model.Key{key("ns1/s11")}}},
		{"the same slice comes again", events(slice(same)), Changes{}},
		{"a health report",
			events(&model.HealthReport{Pod: key("ns1/s11-0"), Port: 8080, Reason: "active check"}),
			Changes{Endpoints: []model.Key{key("ns1/s11")}}},
		{"a pod gets a label",
			events(aPod("ns1/s11-0", "10.1.11.1", func(p *model.Pod) { p.Labels = model.Labels{{Key: "app", Value: "x"}} })),
			Changes{Endpoints: []model.Key{key("ns1/s11")}, Workloads: pods[:1]}},
		{"a pod loses its sidecar, and with it the mesh's hop",
			events(aPod("ns1/s11-0", "10.1.11.1", unmeshed)),
			Changes{Outbounds: []View{view("ns1/s11")}, Endpoints: []model.Key{key("ns1/s11")}, Workloads: pods[:1]}},
		{"the slice is gone, and with it the last pod of an account",
			gone(slice(same)),
			Changes{Outbounds: []View{view("ns1/s11")}, Endpoints: []model.Key{key("ns1/s11")}, Workloads: pods[1:]}},
		{"a Service's port is declared otherwise; no pod is behind it now",
			events(aService("ns1/s11", "10.96.0.12", ports(model.Port{Name: "http", Number: 80, Protocol: model.GRPC, Declared: true}))),
			Changes{Outbounds: []View{view("ns1/s11")}}},
		{"a Service that a route of another one names loses the port",
			events(aService("ns1/s11", "10.96.0.12", ports(number(81, model.HTTP), number(82, model.HTTP)))),
			Changes{Outbounds: []View{view("ns1/s10"), view("ns1/s11")}, Endpoints: []model.Key{key("ns1/s11")}}},
		{"a new Service", events(aService("ns1/new", "10.96.9.9")),
			Changes{Outbounds: []View{view("ns1/new")}, Endpoints: []model.Key{key("ns1/new")}}},
		{"a producer's policy", events(aPolicy("ns2/s21", "kind: Traffic\nservice: s21\ntimeout: 3s\n")),
			Changes{Outbounds: []View{view("ns2/s21")}}},
		{"a consumer's policy", events(aPolicy("ns0/s21", "kind: Traffic\nservice: ns2/s21\ntimeout: 4s\n")),
			Changes{Outbounds: []View{{"ns0", key("ns2/s21")}}}},
		{"a rate limit", events(aPolicy("ns2/s22", "kind: Traffic\nservice: s22\ntimeout: 2s\nroutes: [{name: a, rateLimit: {requests: 1}}]\n")),
			Changes{Outbounds: []View{view("ns2/s22")}, Workloads: []model.Key{key("ns2/s22-0"), key("ns2/s22-1"), key("ns2/s22-2")}}},
		{"a namespace", events(&model.Namespace{Name: "ns1"}), Changes{}},
		{"a node that nobody is on", events(&model.Node{Name: "n9", Zone: "z9"}), Changes{}},
	}
	s := meshOf(town(50, 3)...)
	for _, test := range tests {
		got := s.Apply(test.events)
		got.Policies, got.Save = nil, nil // they are about texts
		want(t, test.name, got, test.want)
	}
}

func TestOneChangeLooksAtNothingElse(t *testing.T) {
	s := meshOf(town(50, 3)...)
	looked := func(e []model.Event) int {
		for i := range e {
			s.take(&e[i])
		}
		n := len(s.dirty.reach) + len(s.dirty.traffic) + len(s.dirty.endpoints) + len(s.dirty.outbounds) + len(s.dirty.workloads)
		s.Apply(nil)
		return n
	}
	slice := aSlice("ns1/s11-1", "s11", at("s11-0", "10.1.11.1"), at("s11-1", "10.1.11.2"), at("s11-2", "10.1.11.3", notReady))
	want(t, "an endpoint: its Service's reach", looked(events(slice)), 1)
	want(t, "a pod: its workload and its Service's reach", looked(events(aPod("ns1/s11-0", "10.1.11.1"))), 2)
	want(t, "a policy: its Service's traffic", looked(events(aPolicy("ns2/s21", "kind: Traffic\nservice: s21\ntimeout: 3s\n"))), 1)
	want(t, "a Service: its views, its pods, and the traffic that names it", looked(events(aService("ns1/s11", "10.96.7.7"))), 3+3+2)
}

func BenchmarkOneEndpointChange(b *testing.B) {
	s := meshOf(town(1000, 10)...)
	slice := func(change ...func(*model.SliceEndpoint)) []model.Event {
		slice := aSlice("ns50/s500-1", "s500")
		for j := range 10 {
			slice.Endpoints = append(slice.Endpoints, at(fmt.Sprintf("s500-%d", j), fmt.Sprintf("10.3.100.%d", j+1)))
		}
		for _, c := range change {
			c(&slice.Endpoints[3])
		}
		return events(slice)
	}
	both := [][]model.Event{slice(notReady), slice()}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if ch := s.Apply(both[i%2]); len(ch.Endpoints) != 1 {
			b.Fatalf("changed %+v", ch)
		}
	}
}

func BenchmarkOneServiceChange(b *testing.B) {
	s := meshOf(town(1000, 10)...)
	both := [][]model.Event{events(aService("ns50/s500", "10.96.2.101")), events(aService("ns50/s500", "10.96.7.7"))}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if ch := s.Apply(both[i%2]); len(ch.Outbounds) != 1 && i > 0 {
			b.Fatalf("changed %+v", ch)
		}
	}
}

func BenchmarkOnePolicyChange(b *testing.B) {
	s := meshOf(town(1000, 10)...)
	text := "kind: Traffic\nservice: s500\nretries: {attempts: 2}\ntimeout: "
	both := [][]model.Event{events(aPolicy("ns50/s500", text+"2s")), events(aPolicy("ns50/s500", text+"3s"))}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if ch := s.Apply(both[i%2]); len(ch.Outbounds) != 1 {
			b.Fatalf("changed %+v", ch)
		}
	}
}

func BenchmarkFirstListing(b *testing.B) {
	all := events(town(1000, 10)...)
	b.ReportAllocs()
	for b.Loop() {
		New(Options{}).Apply(all)
	}
}
