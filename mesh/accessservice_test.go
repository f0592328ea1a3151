package mesh

import (
	"maps"
	"slices"
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

// restarted is a State of what is on disk and of facts, which come one by one, the last of them first.
func restarted(disk saver, facts ...any) *State {
	s := disk.restart()
	for _, f := range slices.Backward(facts) {
		disk.take(s.Apply(events(f)))
	}
	return s
}

func TestAccessOfADeletedServiceLetsNobodyInAfterARestartEither(t *testing.T) {
	service := aService("shop/web", "10.96.0.1", targeting(0, "main"))
	pod := aPod("shop/a", "10.1.0.1", portNamed("main", 7000))
	other := aPod("shop/b", "10.1.0.2", labeled("db"))
	for _, c := range []struct{ name, text, want string }{
		{"rules that allow", webAccess, "strict, closed"},
		{"rules that deny", "kind: Access\nservice: web\nports: {80: strict}\naction: deny\nrules: [{methods: [PUT], ports: [81]}]\n", "strict, deny PUT; open"},
		{"a document that was never good", "kind: Access\nservice: web\nruls: []\n", "deny ; open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			document := aPolicy("shop/p", c.text)
			s, disk := New(Options{Namespace: "heddle-system"}), saver{}
			disk.take(s.Apply(events(service, pod, other, document)))
			disk.take(s.Apply(gone(service)))
			want(t, "before", protection(t, s, 7000), c.want)
			for _, facts := range [][]any{{pod, other, document}, {document, other, pod}} {
				again := restarted(disk, facts...)
				want(t, "after", protection(t, again, 7000), c.want)
				want(t, "views", views(again), views(s))
				want(t, "statuses", again.Policies(), s.Policies())
				want(t, "nothing new to save", again.Apply(nil).Save, nil)
			}
			again := restarted(disk, pod, document)
			disk.take(again.Apply(gone(document)))
			want(t, "without the document", len(again.protected)+len(disk), 0)
		})
	}
}

func protections(t *testing.T, s *State) []string {
	t.Helper()
	return []string{accessAt(t, s, "shop/a", 8080), accessAt(t, s, "shop/b", 8080)}
}

func TestAServiceThatIsThereCountsAndNotWhatWasKeptOfIt(t *testing.T) {
	before := aService("shop/web", "10.96.0.1", targeting(8080, ""))
	now := aService("shop/web", "10.96.0.1", targeting(8080, ""), func(s *model.Service) { s.Selector = model.Labels{{Key: "app", Value: "db"}} })
	facts := []any{aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2", labeled("db")), aPolicy("shop/p", webAccess)}
	s, disk := New(Options{Namespace: "heddle-system"}), saver{}
	disk.take(s.Apply(events(append(facts, before)...)))
	disk.take(s.Apply(gone(before)))
	want(t, "without the Service", protections(t, s), []string{"closed", "open"})

	kept := maps.Clone(disk)
	for first := range 4 { // whichever comes first
		disk := maps.Clone(kept)
		s := disk.restart()
		for i := range 4 {
			disk.take(s.Apply(events(append(slices.Clone(facts), now)[(first+i)%4])))
		}
		want(t, "with another Service of its name", protections(t, s), []string{"open", "allow x/y; closed"})
		disk.take(s.Apply(gone(now)))
		want(t, "without that one", protections(t, s), []string{"open", "closed"})
		want(t, "after a restart", protections(t, restarted(disk, facts...)), []string{"open", "closed"})
	}
}

func TestWhatWasKeptOfAServiceIsVoidOnceTheDocumentNamesItNoMore(t *testing.T) {
	service := aService("shop/web", "10.96.0.1", targeting(8080, ""))
	facts := []any{aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2", labeled("db"))}
	s, disk := New(Options{Namespace: "heddle-system"}), saver{}
	disk.take(s.Apply(events(append(facts, service, aPolicy("shop/p", webAccess))...)))
	disk.take(s.Apply(gone(service)))
	for name, document := range map[string]*model.PolicyText{
		"another Service":   aPolicy("shop/p", "kind: Access\nservice: db\nrules: []\n"),
		"another ConfigMap": aPolicy("shop/p", webAccess, func(p *model.PolicyText) { p.UID = "another" }),
		"no Service":        aPolicy("shop/p", "kind: Access\nworkload: {app: db}\nrules: []\n"),
	} {
		disk := maps.Clone(disk)
		s := restarted(disk, append(facts, document)...)
		want(t, name, accessAt(t, s, "shop/a", 8080), "open")
		disk.take(s.Apply(events(aPolicy("shop/p", webAccess))))
		want(t, name+", and back", accessAt(t, s, "shop/a", 8080), "open")
	}
}

func TestOfTwoMemoriesOfAServiceThatOfTheFirstDocumentCountsWhicheverComesFirst(t *testing.T) {
	keptOf := func(name, app string) model.SavedPolicy {
		return model.SavedPolicy{ConfigMap: key(name), UID: "uid-" + name, Item: "traffic.yaml", Good: webAccess, GoodHash: "h",
			Protects: &model.SavedService{Name: "web", Selector: model.Labels{{Key: "app", Value: app}}, Ports: []model.Port{{Number: 80, Target: 8080}}}}
	}
	facts := []any{aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2", labeled("db")),
		aPolicy("shop/1", webAccess), aPolicy("shop/2", webAccess, created(3)), aPolicy("shop/3", webAccess, created(2))}
	for first := range facts {
		s := New(Options{Saved: []model.SavedPolicy{keptOf("shop/2", "db"), keptOf("shop/3", "web")}})
		disk := saver{}
		for i := range facts {
			disk.take(s.Apply(events(facts[(first+i)%len(facts)])))
		}
		want(t, "access", protections(t, s), []string{"closed", "open"})
		for _, name := range []string{"shop/1", "shop/2"} {
			want(t, "kept by "+name, disk[name+" traffic.yaml"].Protects, keptOf("shop/3", "web").Protects)
		}
	}
}
