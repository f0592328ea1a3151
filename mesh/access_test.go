package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// accessText writes what holds for a port in one line: deny rules, allow rules, and whether others are refused.
func accessText(a *model.Access) string {
	var b strings.Builder
	for _, r := range a.Deny {
		fmt.Fprintf(&b, "deny %s; ", ruleText(r))
	}
	for _, r := range a.Allow {
		fmt.Fprintf(&b, "allow %s; ", ruleText(r))
	}
	if a.Closed {
		b.WriteString("closed")
	} else {
		b.WriteString("open")
	}
	if a.Shadow != nil {
		b.WriteString(" (" + accessText(a.Shadow) + ")")
	}
	return b.String()
}

func ruleText(r model.AccessRule) string {
	var words []string
	for _, p := range r.From {
		words = append(words, p.Namespace+"/"+p.Account)
	}
	words = append(words, r.Methods...)
	for _, p := range r.Paths {
		words = append(words, p.Path+map[bool]string{true: "*"}[p.Prefix])
	}
	return strings.Join(words, " ")
}

// accessAt is accessText of a port of a pod; port 0 stands for all that nobody named.
func accessAt(t *testing.T, s *State, pod string, port uint16) string {
	t.Helper()
	in := portOf(t, s, pod, port)
	return accessText(in.Access)
}

func portOf(t *testing.T, s *State, pod string, port uint16) model.InboundPort {
	t.Helper()
	w := s.Workload(key(pod))
	if port == 0 {
		return w.Undeclared
	}
	i := slices.IndexFunc(w.Ports, func(p model.InboundPort) bool { return p.Number == port })
	if i < 0 {
		t.Fatalf("%s has no port %d", pod, port)
	}
	return w.Ports[i]
}

// shop has the Service web, port 80 to 8080 of pod a, and the pods b (app: db) and other/c.
func shop(more ...any) *State {
	return meshOf(append([]any{
		aService("shop/web", "10.96.0.1"), aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
		aPod("shop/a", "10.1.0.1"),
		aPod("shop/b", "10.1.0.2", func(p *model.Pod) { p.Labels = model.LabelsOf(map[string]string{"app": "db"}) }),
		aPod("other/c", "10.1.0.3"),
	}, more...)...)
}

func TestAccessIsSelectedByNamespaceLabelsOrService(t *testing.T) {
	for _, c := range []struct{ name, text, a, aOther, b string }{
		{"namespace", "rules: [{from: [x/y]}]", "allow x/y; closed", "allow x/y; closed", "allow x/y; closed"},
		{"labels", "workload: {app: db}\nrules: [{from: [x/y]}]", "open", "open", "allow x/y; closed"},
		{"service", "service: web\nrules: [{from: [x/y]}]", "allow x/y; closed", "open", "open"},
		{"service port", "service: web\nrules: [{from: [x/y], ports: [80]}, {from: [x/z], ports: [8080]}]", "allow x/y; closed", "open", "open"},
		{"container port", "workload: {app: web}\nrules: [{from: [x/y], ports: [8080]}]", "allow x/y; closed", "closed", "open"},
		{"another port", "workload: {app: web}\naction: deny\nrules: [{from: [x/y], ports: [81]}]", "open", "open", "open"},
		{"no rules", "rules: []", "closed", "closed", "closed"},
		{"only mtls", "mtls: strict", "open", "open", "open"},
		{"anybody with an identity", `rules: [{from: ["*/*"], methods: [GET], paths: [/a, /b/*]}]`, "allow / GET /a /b/*; closed", "allow / GET /a /b/*; closed", "allow / GET /a /b/*; closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shop(aPolicy("shop/p", "kind: Access\n"+c.text+"\n"))
			want(t, "a", accessAt(t, s, "shop/a", 8080), c.a)
			want(t, "other ports of a", accessAt(t, s, "shop/a", 0), c.aOther)
			want(t, "b", accessAt(t, s, "shop/b", 8080), c.b)
			want(t, "another namespace", accessAt(t, s, "other/c", 8080), "open")
		})
	}
}

func TestDocumentsOfAccessAddUp(t *testing.T) {
	s := shop(
		aPolicy("shop/1", "kind: Access\nrules: [{from: [x/a]}]\n"),
		aPolicy("shop/2", "kind: Access\nservice: web\nrules: [{from: [x/b]}]\n"),
		aPolicy("shop/3", "kind: Access\nworkload: {app: web}\naction: deny\nrules: [{methods: [PUT]}]\n"),
	)
	want(t, "a", accessAt(t, s, "shop/a", 8080), "deny PUT; allow x/a; allow x/b; closed")
	want(t, "b", accessAt(t, s, "shop/b", 8080), "allow x/a; closed")
	s.Apply(gone(aPolicy("shop/1", "")))
	want(t, "without the first", accessAt(t, s, "shop/b", 8080), "open")
}

func TestTheDefaultCountsWhereNothingAllows(t *testing.T) {
	const rules = "kind: Access\nservice: web\nrules: [{from: [x/b]}]\n"
	for _, c := range []struct{ mesh, namespace, a, b string }{
		{"", "", "allow x/b; closed", "open"},
		{"deny", "", "allow x/b; closed", "closed"},
		{"deny", "open", "allow x/b; closed", "open"},
		{"", "same-namespace", "allow x/b; closed", "allow shop/; closed"},
		{"deny", "authenticated", "allow x/b; closed", "allow /; closed"},
	} {
		t.Run(c.mesh+" "+c.namespace, func(t *testing.T) {
			s := shop(aPolicy("shop/rules", rules))
			if c.mesh != "" {
				s.Apply(events(aPolicy("heddle-system/mesh", "kind: Mesh\naccess: "+c.mesh+"\n")))
			}
			if c.namespace != "" {
				s.Apply(events(aPolicy("shop/default", "kind: Access\ndefault: "+c.namespace+"\n")))
			}
			want(t, "a", accessAt(t, s, "shop/a", 8080), c.a)
			want(t, "b", accessAt(t, s, "shop/b", 8080), c.b)
		})
	}
}

func TestAuditIsWhatWouldBeRefusedBeyondWhatIs(t *testing.T) {
	s := shop(
		aPolicy("shop/deny", "kind: Access\nmode: audit\naction: deny\nrules: [{methods: [PUT]}]\n"),
		aPolicy("shop/enforced", "kind: Access\nservice: web\nrules: [{from: [x/a]}]\n"),
	)
	want(t, "deny", accessAt(t, s, "shop/a", 8080), "allow x/a; closed (deny PUT; open)")
	s.Apply(events(aPolicy("shop/allow", "kind: Access\nmode: audit\nrules: [{from: [x/b]}]\n")))
	want(t, "allow beside one that is enforced", accessAt(t, s, "shop/a", 8080), "allow x/a; closed (deny PUT; allow x/a; allow x/b; closed)")
	want(t, "allow by itself", accessAt(t, s, "shop/b", 8080), "open (deny PUT; allow x/b; closed)")
	s.Apply(gone(aPolicy("shop/deny", ""), aPolicy("shop/allow", "")))
	s.Apply(events(aPolicy("shop/default", "kind: Access\nmode: audit\ndefault: deny\n")))
	want(t, "default", accessAt(t, s, "shop/b", 8080), "open (closed)")
	want(t, "default where something allows", accessAt(t, s, "shop/a", 8080), "allow x/a; closed")
	s.Apply(events(aPolicy("heddle-system/mesh", "kind: Mesh\ndefaults: {access: {mode: audit}}\n")))
	want(t, "mode of the mesh", accessAt(t, s, "shop/a", 8080), "open (allow x/a; closed)")
}

func TestMTLSIsSaidForPortWorkloadNamespaceAndMeshInThisOrder(t *testing.T) {
	s := shop()
	is := func(what string, wants ...model.MTLS) {
		t.Helper()
		want(t, what, []model.MTLS{
			portOf(t, s, "shop/a", 8080).MTLS, portOf(t, s, "shop/a", 0).MTLS, portOf(t, s, "shop/b", 8080).MTLS, portOf(t, s, "other/c", 8080).MTLS,
		}, wants)
	}
	const strict, permissive = model.MTLSStrict, model.MTLSPermissive
	is("built in", permissive, permissive, permissive, permissive)
	s.Apply(events(aPolicy("heddle-system/mesh", "kind: Mesh\ndefaults: {access: {mtls: strict}}\n")))
	is("mesh", strict, strict, strict, strict)
	s.Apply(events(aPolicy("shop/1", "kind: Access\nmtls: permissive\n")))
	is("namespace", permissive, permissive, permissive, strict)
	s.Apply(events(aPolicy("shop/2", "kind: Access\nservice: web\nmtls: strict\n")))
	is("service", strict, permissive, permissive, strict)
	s.Apply(events(aPolicy("shop/3", "kind: Access\nworkload: {app: web}\nports: {8080: permissive}\n")))
	is("port", permissive, permissive, permissive, strict)
	s.Apply(gone(aPolicy("shop/3", "")))
	s.Apply(events(aPolicy("shop/1", "kind: Access\nmtls: permissive\nports: {8080: permissive}\n")))
	is("an exception for the namespace weakens no workload", strict, permissive, permissive, strict)
	s.Apply(events(aPolicy("shop/2", "kind: Access\nservice: web\nports: {80: strict, 8080: permissive}\n")))
	is("a Service's port", strict, permissive, permissive, strict)
}

func TestTheLoserOfTwoIsTold(t *testing.T) {
	s := shop(
		aPolicy("shop/1", "kind: Access\nservice: web\nmtls: strict\n", created(2)),
		aPolicy("shop/2", "kind: Access\nworkload: {app: web}\nmtls: permissive\n", created(1)),
		aPolicy("shop/3", "kind: Access\ndefault: deny\n", created(1)),
		aPolicy("shop/4", "kind: Access\ndefault: open\n", created(1)),
	)
	want(t, "mtls", portOf(t, s, "shop/a", 8080).MTLS, model.MTLSPermissive)
	want(t, "default", accessAt(t, s, "shop/a", 8080), "closed")
	told := " sets it too, and is older or first by name; remove it from one of the two"
	want(t, "1", problems(s, "shop/1"), []string{"-:3:7: HDL1601: warning: mtls: has no effect: traffic.yaml in ConfigMap shop/2" + told})
	want(t, "4", problems(s, "shop/4"), []string{"-:2:10: HDL1601: warning: default: has no effect: traffic.yaml in ConfigMap shop/3" + told})
	s.Apply(gone(aPolicy("shop/3", "")))
	want(t, "no longer", problems(s, "shop/4"), nil)
}

func TestAChangeOfAccessLooksOnlyAtTheWorkloadsThatItSelects(t *testing.T) {
	s := shop()
	for _, c := range []struct {
		text string
		want []string
	}{
		{"kind: Access\nworkload: {app: db}\nrules: []\n", []string{"shop/b"}},
		{"kind: Access\nservice: web\nrules: []\n", []string{"shop/a", "shop/b"}}, // before and after
		{"kind: Access\nservice: web\nrules: [{}]\n", []string{"shop/a"}},
		{"kind: Access\nservice: web\nrules: [{}]\n# a comment\n", []string{"shop/a"}},
		{"kind: Access\nservice: cart\nrules: [{}]\n", []string{"shop/a"}},
		{"kind: Access\nrules: [{}]\n", []string{"shop/a", "shop/b"}},
	} {
		s.take(&events(aPolicy("shop/p", c.text))[0])
		var looked []string
		for _, k := range sortedKeys(s.dirty.workloads) {
			looked = append(looked, k.String())
		}
		want(t, c.text, looked, c.want)
		ch := s.Apply(nil)
		if len(ch.Outbounds)+len(ch.Endpoints) > 0 {
			t.Errorf("%s: %+v", c.text, ch)
		}
	}
	ch := s.Apply(events(aPolicy("shop/q", "kind: Access\nservice: web\naction: deny\nrules: [{from: [x/y]}]\n")))
	want(t, "changed", ch.Workloads, []model.Key{key("shop/a")})
}

func TestABrokenAccessDocumentKeepsItsLastGoodVersion(t *testing.T) {
	s := shop(aPolicy("shop/p", "kind: Access\nservice: web\nrules: [{from: [x/y]}]\n"))
	ch := s.Apply(events(aPolicy("shop/p", "kind: Access\nrulez: []\n")))
	want(t, "changed", ch.Workloads, nil)
	want(t, "a", accessAt(t, s, "shop/a", 8080), "allow x/y; closed")
}

func TestAnAccessDocumentThatWasNeverGoodDeniesWhatItCovers(t *testing.T) {
	for _, c := range []struct{ name, text, a, b, covers string }{
		{"a Service", "kind: Access\nservice: web\nrulez: []\n", "deny ; open", "open", "Service shop/web"},
		{"labels", "kind: Access\nworkload: {app: db}\nmode: enforced\nmtls: strict\n", "open", "deny ; open", "pods app=db in namespace shop"},
		{"nobody knows what", "kind: Access\nservice: [\n", "deny ; open", "deny ; open", "all pods in namespace shop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shop(aPolicy("shop/p", c.text))
			want(t, "a", accessAt(t, s, "shop/a", 8080), c.a)
			want(t, "b", accessAt(t, s, "shop/b", 8080), c.b)
			want(t, "another namespace", accessAt(t, s, "other/c", 8080), "open")
			told := problems(s, "shop/p")
			if last := told[len(told)-1]; !strings.Contains(last, "HDL1618: no version of it was good, so that it denies every call of "+c.covers+";") {
				t.Errorf("it says %s", last)
			}
			s.Apply(events(aPolicy("shop/p", "kind: Access\nservice: web\naction: deny\nrules: [{methods: [PUT]}]\n")))
			want(t, "mended", accessAt(t, s, "shop/a", 8080)+", "+accessAt(t, s, "shop/b", 8080), "deny PUT; open, open")
			want(t, "problems", problems(s, "shop/p"), nil)
		})
	}
	s := shop(aPolicy("shop/p", "kind: Traffic\nservice: web\ntimeout: [\n"))
	want(t, "another kind", accessAt(t, s, "shop/a", 8080), "open")
}

func TestAnAccessDocumentThatProxiesRefuseDeniesOrGoesBack(t *testing.T) {
	const first, second = "kind: Access\nservice: web\nrules: [{from: [x/y]}]\n", "kind: Access\nservice: web\nrules: [{from: [x/z]}]\n"
	refuse := func(s *State) Changes {
		o := portOf(t, s, "shop/a", 8080).Access.Origins[0]
		return s.Apply(events(&model.Refusal{Policy: o.Key, Item: o.Item, Hash: o.Hash, Reason: "no"}))
	}
	s := shop(aPolicy("shop/p", first))
	s.Apply(events(aPolicy("shop/p", second)))
	ch := refuse(s)
	want(t, "changed", ch.Workloads, []model.Key{key("shop/a")})
	want(t, "back", accessAt(t, s, "shop/a", 8080), "allow x/y; closed")
	refuse(s)
	want(t, "nothing to go back to", accessAt(t, s, "shop/a", 8080), "deny ; open")
	want(t, "others", accessAt(t, s, "shop/b", 8080), "open")
}

func TestADeniedDocumentDeniesAfterARestartToo(t *testing.T) {
	saved := saver{}
	s := New(Options{Namespace: "heddle-system"})
	saved.take(s.Apply(events(aService("shop/web", "10.96.0.1"), aPolicy("shop/p", "kind: Access\nservice: web\nrules: [{from: [x/y]}]\n"))))
	s = saved.restart()
	s.Apply(events(aService("shop/web", "10.96.0.1"), aSlice("shop/web-1", "web", at("a", "10.1.0.1")), aPod("shop/a", "10.1.0.1"),
		aPolicy("shop/p", "kind: Access\nservice: web\nrules: [{form: [x/y]}]\n")))
	want(t, "last good", accessAt(t, s, "shop/a", 8080), "allow x/y; closed")
	s = New(Options{Namespace: "heddle-system"})
	s.Apply(events(aPod("shop/a", "10.1.0.1"), aPolicy("shop/p", "kind: Access\nrules: [{form: [x/y]}]\n")))
	want(t, "nothing saved", accessAt(t, s, "shop/a", 8080), "deny ; open")
}

func TestWritersAreToldWhatARuleIsNot(t *testing.T) {
	s := meshOf(
		aService("shop/db", "10.96.0.1", ports(model.Port{Name: "http", Number: 5432, Protocol: model.TCP, Declared: true})),
		aSlice("shop/db-1", "db", at("a", "10.1.0.1"), at("b", "10.1.0.2")), aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aPolicy("shop/allow", "kind: Access\nservice: db\nrules: [{methods: [GET], ports: [5432, 80]}]\n"),
		aPolicy("shop/deny", "kind: Access\nservice: db\naction: deny\nrules: [{paths: [/x], from: [x/y]}]\n"),
		aPolicy("shop/missing", "kind: Access\nservice: bd\nrules: [{}]\n"),
	)
	want(t, "allow", problems(s, "shop/allow"), []string{
		"-:3:9: HDL1615: warning: rules[0]: port 8080 of the pods carries TCP, which has no methods and paths, so that it never matches there; name the ports that carry HTTP, or declare that this one does",
		"-:3:40: HDL1612: warning: rules[0].ports[1]: Service shop/db has no port 80, so that the rule never matches there; write a port of the Service",
	})
	want(t, "deny", problems(s, "shop/deny"), []string{
		"-:4:9: HDL1615: warning: rules[0]: port 8080 of the pods carries TCP, which has no methods and paths, so that it denies its callers all of that port; name the ports that carry HTTP, or declare that this one does",
		"-:4:29: HDL1617: warning: rules[0].from: denies by identity what also takes plain text, where callers have none and get around it; write mtls: strict",
	})
	want(t, "missing", problems(s, "shop/missing"), []string{"-:2:10: HDL1611: warning: service: there is no Service shop/bd; correct the name, or create the Service"})
	s.Apply(events(aService("shop/bd", "10.96.0.2"), aPolicy("shop/strict", "kind: Access\nmtls: strict\n")))
	want(t, "found", problems(s, "shop/missing"), nil)
	want(t, "strict", len(problems(s, "shop/deny")), 1)
}

func TestAPortThatOnlyAnAccessDocumentNamesIsReceivedByItself(t *testing.T) {
	s := shop(aPolicy("shop/p", "kind: Access\nworkload: {app: db}\naction: deny\nrules: [{from: [x/y], ports: [9999]}]\n"))
	want(t, "named", accessAt(t, s, "shop/b", 9999), "deny x/y; open")
	want(t, "protocol", portOf(t, s, "shop/b", 9999).Protocol, model.TCP)
	want(t, "others", accessAt(t, s, "shop/b", 0), "open")
}

func TestACodeStaysWhileARuleDoes(t *testing.T) {
	code := func(text string) string {
		return portOf(t, shop(aPolicy("shop/p", text)), "shop/a", 8080).Access.Allow[0].Code
	}
	first := code("kind: Access\nrules: [{from: [x/y]}]\n")
	want(t, "edited", code("kind: Access\nservice: web\nrules: [{from: [x/z]}]\n"), first)
	want(t, "form", len(first), len("HDA-12345678"))
}

func TestARefusalBecauseNothingAllowsNamesTheDocumentsThatAllow(t *testing.T) {
	one, two := policy.Place{Namespace: "shop", ConfigMap: "1", Key: "traffic.yaml"}, policy.Place{Namespace: "shop", ConfigMap: "2", Key: "traffic.yaml"}
	first := aPolicy("shop/1", "kind: Access\nrules: [{from: [x/a]}]\n", created(2))
	second := aPolicy("shop/2", "kind: Access\nservice: web\nrules: []\n", created(1))
	codes := func(s *State, port uint16) []string {
		a := portOf(t, s, "shop/a", port).Access
		out := []string{a.Code}
		if a.Shadow != nil {
			out = append(out, a.Shadow.Code)
		}
		return out
	}
	s := shop(first, second, aPolicy("shop/3", "kind: Access\naction: deny\nrules: [{from: [x/b]}]\n"))
	both := policy.UnmatchedCode([]policy.Place{one, two})
	want(t, "both speak of the port", codes(s, 8080), []string{both})
	want(t, "one does", codes(s, 0), []string{policy.UnmatchedCode([]policy.Place{one})})
	want(t, "in another order", policy.UnmatchedCode([]policy.Place{two, one, two}), both)
	want(t, "form", len(both), len("HDA-none-12345678"))
	s.Apply(events(aPolicy("shop/1", "kind: Access\nrules: [{from: [x/c]}, {methods: [GET]}]\n", created(2))))
	want(t, "after an edit", codes(s, 8080), []string{both})
	s.Apply(events(aPolicy("shop/1", "kind: Access\nmode: audit\nrules: [{from: [x/c]}]\n", created(2))))
	want(t, "one in audit mode", codes(s, 8080), []string{policy.UnmatchedCode([]policy.Place{two}), both})
	want(t, "where it is alone", codes(s, 0), []string{"", policy.UnmatchedCode([]policy.Place{one})})
	s.Apply(gone(first, second))
	s.Apply(events(aPolicy("shop/4", "kind: Access\ndefault: authenticated\n")))
	want(t, "a default", codes(s, 8080), []string{model.AccessDefault})
	s.Apply(events(aPolicy("shop/4", "kind: Access\nmode: audit\ndefault: deny\n")))
	want(t, "a default in audit mode", codes(s, 8080), []string{"", model.AccessDefault})
}
