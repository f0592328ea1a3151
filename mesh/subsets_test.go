package mesh

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// manySubsets is a policy of a Service that sends to subsets of shop/catalog, from one number up to before another.
func manySubsets(name, service string, from, to int, created time.Time) *model.PolicyText {
	var b strings.Builder
	fmt.Fprintf(&b, "kind: Traffic\nservice: %s\nroutes:\n", service)
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "- {name: r%d, match: [{path: {prefix: /%d}}], to: [{service: shop/catalog, subset: {v: n%d}}]}\n", i, i, i)
	}
	p := aPolicy(name, b.String())
	p.Created = created
	return p
}

func TestAServiceHasNoMoreSubsetsThanItsBoundWhoeverNamesThem(t *testing.T) {
	old := time.Unix(1_000_000, 0)
	own := manySubsets("shop/p", "catalog", 0, 10, old.Add(time.Hour))
	first := manySubsets("lab/p", "x", 10, 60, old)
	s := meshOf(aService("shop/catalog", "10.96.0.1"), aService("evil/x", "10.96.0.2"), aService("lab/x", "10.96.0.3"),
		manySubsets("evil/p", "x", 100, 300, old.Add(time.Minute)), first)
	over := func(policy string) int {
		n := 0
		for _, p := range problems(s, policy) {
			if strings.Contains(p, "HDL1619: warning") {
				n++
			}
		}
		return n
	}
	subsets := func() int {
		n := len(s.Outbound(View{Key: key("shop/catalog")}).Subsets)
		want(t, "of endpoints", len(s.Endpoints(key("shop/catalog")).Subsets), n)
		return n
	}
	want(t, "subsets", subsets(), maxSubsets)
	want(t, "the older", over("lab/p"), 50-32)
	want(t, "the younger", over("evil/p"), 200-32)
	want(t, "the last within", targetsOf(s, "", "evil/x")[31], "shop/catalog:80[v=n131] 1")
	want(t, "the first beyond", targetsOf(s, "", "evil/x")[32],
		"shop/catalog:80[v=n132] 1 missing: Service shop/catalog has 64 other subsets that go before")

	s.Apply(events(own))
	want(t, "subsets", subsets(), maxSubsets)
	want(t, "the Service's own namespace", over("shop/p"), 0)
	want(t, "the older", over("lab/p"), 50-27)
	want(t, "the younger", over("evil/p"), 200-27)

	s.Apply(gone(first))
	want(t, "the younger, with the older gone", over("evil/p"), 200-54)
	want(t, "in its routes", targetsOf(s, "", "evil/x")[53], "shop/catalog:80[v=n153] 1")
	s.Apply(gone(manySubsets("evil/p", "x", 100, 300, old)))
	want(t, "subsets", subsets(), 10)
}

func TestANamespaceThatNamesFewSubsetsOfAServiceHasThemHoweverManyOthersName(t *testing.T) {
	old := time.Unix(1_000_000, 0)
	facts := []any{aService("shop/catalog", "10.96.0.1"), aService("few/x", "10.96.0.2"), manySubsets("few/p", "x", 0, 5, old.Add(time.Hour))}
	for i, name := range []string{"a", "b", "c"} { // each with two documents, older than that
		facts = append(facts, aService(name+"/x", fmt.Sprintf("10.96.1.%d", i)), aService(name+"/y", fmt.Sprintf("10.96.2.%d", i)),
			manySubsets(name+"/p", "x", 100*i+100, 100*i+150, old), manySubsets(name+"/q", "y", 100*i+150, 100*i+200, old))
	}
	s := meshOf(facts...)
	missing := func(service string) int {
		return strings.Count(strings.Join(targetsOf(s, "", service), " "), "missing")
	}
	want(t, "of the one that names few", missing("few/x"), 0)
	want(t, "of the others", []int{missing("a/x"), missing("b/x"), missing("c/x")}, []int{50 - 20, 50 - 20, 50 - 19})

	s.Apply(events(manySubsets("few/p", "x", 100, 164, old.Add(time.Hour)))) // those of a: each of the two has the turns of both
	want(t, "with those of another namespace", missing("few/x"), 64-32)
	want(t, "of the others", []int{missing("a/x"), missing("b/x"), missing("c/x")}, []int{50 - 32, 50 - 16, 50 - 16})
}

func TestWhichSubsetsAreKeptDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	old := time.Unix(1_000_000, 0)
	facts := []any{
		aService("shop/catalog", "10.96.0.1"), aService("evil/x", "10.96.0.2"), aService("lab/x", "10.96.0.3"),
		manySubsets("evil/p", "x", 30, 130, old), manySubsets("lab/p", "x", 0, 60, old), manySubsets("shop/p", "catalog", 50, 60, old.Add(time.Hour)),
	}
	scratch := meshOf(facts...)
	for first := range facts {
		s := meshOf()
		for i := range facts {
			s.Apply(events(facts[(first+i)%len(facts)]))
		}
		want(t, "views", views(s), views(scratch))
		want(t, "statuses", s.Policies(), scratch.Policies())
		if first >= 3 { // a policy comes and goes
			s.Apply(gone(facts[first]))
			s.Apply(events(facts[first]))
			want(t, "views after it was gone", views(s), views(scratch))
			want(t, "statuses after it was gone", s.Policies(), scratch.Policies())
		}
	}
}

func TestACallersPolicyOfAServiceIsNoPolicyOfItsOwnNamespace(t *testing.T) {
	old := time.Unix(1_000_000, 0)
	s := meshOf(aService("shop/catalog", "10.96.0.1"), manySubsets("evil/p", "shop/catalog", 100, 300, old),
		manySubsets("shop/p", "catalog", 0, 10, old.Add(time.Hour)))
	kept := s.Outbound(View{Key: key("shop/catalog")}).Subsets
	want(t, "subsets", len(kept), maxSubsets)
	want(t, "the first", kept[0].String(), "v=n0")
	want(t, "own routes", strings.Contains(strings.Join(targetsOf(s, "", "shop/catalog"), " "), "missing"), false)
}
