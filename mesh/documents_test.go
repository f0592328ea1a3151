package mesh

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

const (
	good   = "kind: Traffic\nservice: catalog\ntimeout: 2s\n"
	better = "kind: Traffic\nservice: catalog\ntimeout: 3s\n"
	best   = "kind: Traffic\nservice: catalog\ntimeout: 4s\n"
	broken = "kind: Traffic\nservice: catalog\ntimeuot: 5s\n"
)

func statusOf(s *State, configMap string) PolicyStatus {
	for _, p := range s.Policies() {
		if p.ConfigMap == key(configMap) {
			return p
		}
	}
	return PolicyStatus{}
}

func timeout(s *State) time.Duration { return trafficOf(s, "", "shop/catalog").Timeout }

// saver keeps what a State asks to be saved, as the kube package does.
type saver map[string]model.SavedPolicy

func (k saver) take(ch Changes) Changes {
	for _, p := range ch.Save {
		name := p.ConfigMap.String() + " " + p.Item
		if k[name] = p; p.Empty() {
			delete(k, name)
		}
	}
	return ch
}

// restart is a State that begins with what was saved.
func (k saver) restart() *State {
	var saved []model.SavedPolicy
	for _, p := range k {
		saved = append(saved, p)
	}
	return New(Options{Namespace: "heddle-system", Saved: saved})
}

func TestABrokenEditKeepsTheLastGoodVersion(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))
	serving := statusOf(s, "shop/p").Serving
	ch := s.Apply(events(aPolicy("shop/p", broken)))
	want(t, "changed", ch.Outbounds, nil)
	want(t, "timeout", timeout(s), 2*time.Second)
	status := statusOf(s, "shop/p")
	want(t, "accepted", status.Accepted, false)
	want(t, "serving", status.Serving, serving)
	want(t, "problems", len(status.Problems), 1)
	want(t, "place", status.Problems[0].Line, 3)

	s.Apply(events(aPolicy("shop/p", better)))
	want(t, "mended", timeout(s), 3*time.Second)
	want(t, "accepted", statusOf(s, "shop/p").Accepted, true)
}

func TestADocumentThatWasNeverGoodHasNoEffect(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", broken))
	want(t, "timeout", timeout(s), 0)
	want(t, "serving", statusOf(s, "shop/p").Serving, "")
}

func TestARestartServesTheLastGoodVersionOfABrokenPolicy(t *testing.T) {
	facts := []any{aService("shop/catalog", "10.96.0.1"), aPod("shop/a", "10.1.0.1"), aSlice("shop/catalog-1", "catalog", at("a", "10.1.0.1"))}
	disk := saver{}
	s := New(Options{Namespace: "heddle-system"})
	disk.take(s.Apply(events(append(facts, aPolicy("shop/p", good))...)))
	ch := disk.take(s.Apply(events(aPolicy("shop/p", broken))))
	want(t, "nothing to save for a broken edit", ch.Save, nil)

	again := disk.restart()
	ch = again.Apply(events(append(facts, aPolicy("shop/p", broken))...))
	want(t, "nothing new to save", ch.Save, nil)
	want(t, "views", views(again), views(s))
	want(t, "statuses", again.Policies(), s.Policies())
}

func TestASavedVersionOfAnotherConfigMapOfThatNameIsVoid(t *testing.T) {
	disk := saver{}
	s := New(Options{})
	disk.take(s.Apply(events(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))))
	other := aPolicy("shop/p", broken, func(p *model.PolicyText) { p.UID = "another" })

	ch := s.Apply(events(other))
	want(t, "while running", timeout(s), 0)
	want(t, "saved", len(ch.Save) == 1 && ch.Save[0].Empty(), true)

	again := disk.restart()
	again.Apply(events(aService("shop/catalog", "10.96.0.1"), other))
	want(t, "after a restart", timeout(again), 0)
}

func TestADeletedPolicyIsNotRemembered(t *testing.T) {
	disk := saver{}
	s := New(Options{})
	two := aPolicy("shop/p", good)
	two.Documents = append(two.Documents, model.PolicyDocument{Item: "mesh.yaml", Text: "kind: Mesh"})
	disk.take(s.Apply(events(aService("shop/catalog", "10.96.0.1"), two)))
	ch := disk.take(s.Apply(events(aPolicy("shop/p", good))))
	want(t, "an item less", ch.Policies, []PolicyStatus{{ConfigMap: key("shop/p"), Item: "mesh.yaml", Gone: true}})
	disk.take(s.Apply(gone(aPolicy("shop/p", ""))))
	want(t, "saved", len(disk), 0)
	want(t, "timeout", timeout(s), 0)
	want(t, "statuses", len(s.Policies()), 0)
}

func refuse(s *State, hash string) Changes {
	return s.Apply(events(&model.Refusal{Policy: key("shop/p"), Item: "traffic.yaml", Hash: hash, Reason: "bad regex"}))
}

func TestAVersionThatProxiesRefuseGivesWayToTheGoodOneBefore(t *testing.T) {
	disk := saver{}
	facts := []any{aService("shop/catalog", "10.96.0.1")}
	s := New(Options{Namespace: "heddle-system"})
	disk.take(s.Apply(events(append(facts, aPolicy("shop/p", good))...)))
	disk.take(s.Apply(events(aPolicy("shop/p", better))))
	refused := statusOf(s, "shop/p").Hash

	ch := disk.take(refuse(s, refused))
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/catalog")}})
	want(t, "timeout", timeout(s), 2*time.Second)
	want(t, "accepted", statusOf(s, "shop/p").Accepted, false)
	want(t, "problem", problems(s, "shop/p"), []string{
		"-:1:1: HDL1616: proxies refused this version: bad regex; change what it names; the version before stays in force"})

	again := disk.restart()
	again.Apply(events(append(facts, aPolicy("shop/p", better))...))
	want(t, "after a restart", views(again), views(s))

	for _, state := range []*State{s, again} {
		state.Apply(events(aPolicy("shop/p", "# the same\n"+better)))
		want(t, "a comment is no other version", timeout(state), 2*time.Second)
		state.Apply(events(aPolicy("shop/p", best)))
		want(t, "another version is tried", timeout(state), 4*time.Second)
		state.Apply(events(aPolicy("shop/p", better)))
		want(t, "the refused one is not tried again", timeout(state), 4*time.Second)
	}
}

func TestVersionsRefusedOneAfterAnotherLeadBackToTheOneThatHeld(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))
	var hashes []string
	for _, text := range []string{better, best} {
		s.Apply(events(aPolicy("shop/p", text)))
		hashes = append(hashes, statusOf(s, "shop/p").Hash)
	}
	for _, h := range hashes { // the first refusal comes when the second version is in force already
		refuse(s, h)
	}
	want(t, "timeout", timeout(s), 2*time.Second)
	refuse(s, statusOf(s, "shop/p").Serving)
	want(t, "none left", timeout(s), 0)
	want(t, "refused", len(s.documents[ref{key("shop/p"), "traffic.yaml"}].refused), 3)
}

func TestARefusalOfAnUnknownVersionChangesNothing(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))
	want(t, "changes", refuse(s, "no such hash"), Changes{})
	want(t, "changes", s.Apply(events(&model.Refusal{Policy: key("shop/none"), Item: "x", Hash: "y"})), Changes{})
}

func TestARefusedPartIsBlamedOnTheVersionThatBroughtItIn(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good))
	s.Apply(events(aPolicy("shop/p", good+"idleTimeout: 1m\n")))
	origins := trafficOf(s, "", "shop/catalog").Origins
	want(t, "a part that was good before", refuse(s, origins["timeout"].Hash), Changes{})
	refuse(s, origins["idleTimeout"].Hash)
	want(t, "idle timeout", trafficOf(s, "", "shop/catalog").IdleTimeout, 0)
	want(t, "timeout", timeout(s), 2*time.Second)
	refuse(s, origins["idleTimeout"].Hash)
	want(t, "told twice", timeout(s), 2*time.Second)
}

func TestManyRefusalsAreForgottenOldestFirst(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"))
	for i := range refusals + 5 {
		s.Apply(events(aPolicy("shop/p", "kind: Traffic\nservice: catalog\ntimeout: "+time.Duration(i*1e9).String())))
		refuse(s, statusOf(s, "shop/p").Hash)
	}
	d := s.documents[ref{key("shop/p"), "traffic.yaml"}]
	want(t, "refused", len(d.refused), refusals)
	want(t, "reasons", len(d.reasons), refusals)
}

func TestAPolicyThatChangesItsServiceLeavesTheOtherOne(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("shop/cart", "10.96.0.2"), aPolicy("shop/p", good))
	ch := s.Apply(events(aPolicy("shop/p", strings.ReplaceAll(good, "catalog", "cart"))))
	want(t, "changed", ch.Outbounds, []View{{Key: key("shop/cart")}, {Key: key("shop/catalog")}})
	want(t, "timeout", timeout(s), 0)
	want(t, "timeout", trafficOf(s, "", "shop/cart").Timeout, 2*time.Second)
}

func TestAnEditOfACommentChangesNothingButPlaces(t *testing.T) {
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aPolicy("shop/p", good+"routes: [{name: a, to: [{service: x}]}]"))
	ch := s.Apply(events(aPolicy("shop/p", "# why\n"+good+"routes: [{name: a, to: [{service: x}]}]")))
	want(t, "views", len(ch.Outbounds)+len(ch.Endpoints)+len(ch.Workloads)+len(ch.Save), 0)
	want(t, "the warning moved", ch.Policies[0].Problems[0].Line, 5)
}

func TestProblemsPointIntoThePersonsOwnFile(t *testing.T) {
	p := aPolicy("shop/p", "kind: Traffic\nservice: catalog\n")
	p.Documents[0].File, p.Documents[0].Line, p.Documents[0].Column = "shop.yaml", 6, 4
	want(t, "problem", problems(meshOf(p), "shop/p"), []string{
		"shop.yaml:7:14: HDL1611: warning: service: there is no Service shop/catalog; correct the name, or create the Service"})
	p.Documents[0].Pinned = true
	want(t, "quoted", strings.HasPrefix(problems(meshOf(p), "shop/p")[0], "shop.yaml:6:4: "), true)
}
