package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wantState checks what people are told of one type of the current proxy.
func (s *script) wantState(args []string) error {
	t, err := typeNamed(args[0])
	if err != nil {
		return err
	}
	states := s.store.Streams(func(proxy string) bool { return proxy == s.current.name })
	if len(states) != 1 {
		return fmt.Errorf("it has %d streams", len(states))
	}
	for _, state := range states[0].Types {
		if state.Type != t {
			continue
		}
		got := fmt.Sprint(state.Resources) + " unsynced"
		if state.Synced {
			got = fmt.Sprint(state.Resources) + " synced"
		}
		for _, r := range state.Refused {
			got += " " + r.Name + "@" + s.label(r.Version)
		}
		if want := strings.Join(args[1:], " "); got != want {
			return fmt.Errorf("got:  %s\nwant: %s", got, want)
		}
		return nil
	}
	return fmt.Errorf("it has no subscription to %v", t)
}

// What a stream sees, what one that asks for all would see, and what it is said to have are one and the same.
func TestEqualProxiesHaveEqualVersionsAndOthersOthers(t *testing.T) {
	s := NewStore()
	resource := func(name, label string) *Resource {
		t.Helper()
		r, err := NewResource(name, sample(Route, name, label))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s.Publish(Update{Layer: "mesh", Set: []*Resource{resource("a", "1"), resource("b", "1")}}, Update{Layer: "shop", Set: []*Resource{resource("b", "2")}})
	attach := func(proxy string, layers ...Layer) {
		c := &client{proxy: proxy}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attach(c, layers)
		c.open(Route)
		c.subs[Route].wildcard = true
	}
	attach("p1", "mesh")
	attach("p2", "mesh")
	attach("p3", "shop", "mesh")
	versions := map[string]string{}
	for _, state := range s.Streams(func(string) bool { return true }) {
		versions[state.Proxy] = state.Types[0].Version
	}
	if versions["p1"] != versions["p2"] || versions["p1"] == versions["p3"] {
		t.Errorf("versions are %v; want those of p1 and p2 equal, and p3's another", versions)
	}
	names := func(list []*Resource) (all []string) {
		for _, r := range list {
			all = append(all, r.Name+"@"+r.Version)
		}
		return all
	}
	served, ok := s.Served("p3")
	seen := names(s.View([]Layer{"shop", "mesh"}))
	if want := []string{"a@" + resource("a", "1").Version, "b@" + resource("b", "2").Version}; !ok || !slices.Equal(names(served), seen) || !slices.Equal(seen, want) {
		t.Errorf("p3 is served %v and would see %v", names(served), seen)
	}
	if _, ok := s.Served("p4"); ok {
		t.Error("a proxy that was never there is served")
	}
}
