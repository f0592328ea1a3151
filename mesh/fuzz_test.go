package mesh

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

func FuzzNoPolicyTextTouchesTheServicesItDoesNotName(f *testing.F) {
	for _, text := range []string{good, better, broken, "", "kind: Traffic\nservice: catalog\nroutes: [{name: r, to: [{service: catalog, subset: {a: b}}], mirror: [{service: x/y}]}]",
		"kind: Traffic\nservice: catalog\nhealthCheck: {path: /, port: 9}\nloadBalancer: {policy: maglev, hashOn: [{header: x}]}",
		"kind: Access\nservice: catalog", "a: &a [*a]", "\x00", "kind: Mesh\ndefaults: {traffic: {timeout: 1s}}"} {
		f.Add(text, text)
	}
	bystander := View{Key: key("other/bystander")}
	f.Fuzz(func(t *testing.T, first, second string) {
		s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("other/bystander", "10.96.0.2"), aPod("shop/a", "10.1.0.1"),
			aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1")))
		before := s.Outbound(bystander)
		for _, text := range []string{first, second} {
			s.Apply(events(aPolicy("shop/p", text)))
			if s.Outbound(bystander) != before {
				t.Errorf("the view of a Service in another namespace changed by %q", text)
			}
			if s.Outbound(View{Key: key("shop/catalog")}) == nil {
				t.Errorf("the Service lost its view by %q", text)
			}
		}
		s.Apply(gone(aPolicy("shop/p", "")))
		if diff := !reflect.DeepEqual(trafficOf(s, "", "shop/catalog"), s.defaults.traffic); diff {
			t.Errorf("something is left of %q and %q", first, second)
		}
	})
}

func TestOddFactsDoNoHarm(t *testing.T) {
	s := meshOf(twoPods()...)
	before := views(s)
	odd := []any{
		&model.Service{}, &model.Slice{}, &model.Pod{}, &model.Node{}, &model.Namespace{}, &model.PolicyText{},
		&model.HealthReport{}, &model.Refusal{},
		&model.Service{Key: key("x/y"), Kind: model.Headless}, &model.Service{Key: key("x/z"), Addresses: []netip.Addr{{}}, Ports: []model.Port{{}, {}}},
		&model.Slice{Key: key("x/y"), Service: "z", Ports: []model.SlicePort{{}, {}}, Endpoints: []model.SliceEndpoint{{}, {Pod: "p"}, {Pod: "p", PodUID: "u"}}},
		&model.Pod{Key: key("x/p"), UID: "u", Meshed: true, Addresses: []netip.Addr{{}}, Ports: []model.PodPort{{}, {}}},
		&model.PolicyText{Key: key("x/y"), Documents: []model.PolicyDocument{{}, {}, {Item: "a", Text: good}, {Item: "a", Text: better}}},
		&model.HealthReport{Pod: key("x/p"), Reason: model.ActiveCheck},
	}
	s.Apply([]model.Event{{}, {Gone: true}, {Synced: true}})
	s.Apply(gone(odd...))
	s.Apply(events(odd...))
	s.Apply(events(odd...))
	s.Apply(gone(odd...))
	want(t, "views", views(s), before)
}
