package xds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
)

// TestEveryProxyEndsWithWhatTheStoreHolds lets proxies of both protocols ask, confirm, refuse, leave and come back
// while layers change, all at random, and compares what each has in the end with a model that knows no protocol.
func TestEveryProxyEndsWithWhatTheStoreHolds(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				defer w.close()
				for range 400 {
					w.step()
				}
				w.calm()
				for _, r := range w.robots {
					w.compare(r)
				}
			})
		})
	}
}

// world is a server, the proxies on it, and what they should have.
type world struct {
	t       *testing.T
	random  *rand.Rand
	server  *Server
	store   *Store
	robots  []*robot
	content map[Layer]map[Ref]*Resource
	bad     map[string]bool // versions that every proxy refuses
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), store: NewStore(),
		content: map[Layer]map[Ref]*Resource{}, bad: map[string]bool{},
	}
	stacks := map[string][]Layer{"p0": {"pod", "mesh"}, "p1": {"mesh"}, "p2": {"zone", "mesh"}, "p3": {"pod", "zone", "mesh"}}
	w.server = NewServer(Options{
		Store: w.store, Accepts: 1e6,
		Connect: func(_ context.Context, n *corev3.Node) (Session, error) {
			return Session{Layers: stacks[n.GetId()]}, nil
		},
	})
	w.store.MarkSynced()
	for i, name := range []string{"p0", "p1", "p2", "p3"} {
		kind := delta
		if i == 3 {
			kind = sotw
		}
		r := &robot{world: w, name: name, kind: kind, stack: stacks[name]}
		w.robots = append(w.robots, r)
		r.connect(false)
	}
	return w
}

func (w *world) close() {
	for _, r := range w.robots {
		r.hangUp()
	}
	synctest.Wait()
}

func (w *world) step() {
	r := w.robots[w.random.IntN(len(w.robots))]
	switch n := w.random.IntN(20); {
	case n < 6:
		w.publish()
	case n < 14:
		r.answer()
	case n < 17:
		r.change()
	case n < 18:
		time.Sleep(time.Duration(w.random.IntN(8)) * time.Second)
	case n < 19:
		r.hangUp()
		synctest.Wait()
		r.connect(true)
	}
	synctest.Wait()
}

func (w *world) publish() {
	u := Update{Layer: []Layer{"mesh", "mesh", "pod", "zone"}[w.random.IntN(4)]}
	if w.content[u.Layer] == nil {
		w.content[u.Layer] = map[Ref]*Resource{}
	}
	touched := map[Ref]bool{}
	for range 1 + w.random.IntN(4) {
		ref := Ref{Type(w.random.IntN(int(typeCount))), fmt.Sprintf("n%d", w.random.IntN(8))}
		if touched[ref] {
			continue
		}
		touched[ref] = true
		if w.random.IntN(4) == 0 {
			u.Remove = append(u.Remove, ref)
			delete(w.content[u.Layer], ref)
			continue
		}
		label := w.random.IntN(12)
		r, err := NewResource(ref.Name, sample(ref.Type, ref.Name, fmt.Sprint(u.Layer, label)))
		if err != nil {
			w.t.Fatal(err)
		}
		w.bad[r.Version] = label == 0
		w.content[u.Layer][ref] = r
		u.Set = append(u.Set, r)
	}
	w.store.Publish(u)
}

// calm lets all proxies answer until nothing comes any more.
func (w *world) calm() {
	for quiet := 0; quiet < 3; quiet++ {
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, r := range w.robots {
			for r.answer() {
				quiet = 0
				synctest.Wait()
			}
		}
	}
}

// compare checks what r has. Names whose wanted version is bad, or was when r last could hear of it, may be anything
// but that version.
func (w *world) compare(r *robot) {
	for t := range typeCount {
		for i := range 8 {
			ref := Ref{t, fmt.Sprintf("n%d", i)}
			got, has := r.state[t][ref.Name]
			want := w.wanted(r, ref)
			switch {
			case w.bad[got]:
				w.t.Errorf("%s has a bad version of %v", r.name, ref)
			case !r.wants(t, ref.Name):
			case want == nil && has && !r.placeholder(ref, got) && !(r.kind == sotw && (t == Endpoints || t == Route)):
				w.t.Errorf("%s still has %v", r.name, ref)
			case want != nil && !w.bad[want.Version] && got != want.Version:
				w.t.Errorf("%s has version %q of %v; want %q", r.name, got, ref, want.Version)
			}
		}
	}
}

func (w *world) wanted(r *robot, ref Ref) *Resource {
	for _, l := range r.stack {
		if found := w.content[l][ref]; found != nil {
			return found
		}
	}
	return nil
}

// robot is a proxy that behaves by itself. It wants all clusters and listeners, and some endpoints and routes.
type robot struct {
	*fakeProxy
	world *world
	name  string
	kind  dialect
	stack []Layer
	names [typeCount]map[string]bool
	state [typeCount]map[string]string // version by name: what it runs
	known [typeCount]map[string]string // version by name: what it confirmed
}

func (r *robot) wants(t Type, name string) bool {
	return t == Cluster || t == Listener || r.names[t][name]
}

// connect opens a stream; again tells what is known from the one before.
func (r *robot) connect(again bool) {
	r.fakeProxy = dial(r.world.server, r.name, r.kind)
	for t := range typeCount {
		if r.state[t] == nil || !again {
			r.state[t], r.known[t], r.names[t] = map[string]string{}, map[string]string{}, map[string]bool{"n0": true}
		}
		request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), InitialResourceVersions: map[string]string{}}
		if t == Cluster {
			request.Node = &corev3.Node{Id: r.name}
		}
		for name, version := range r.known[t] {
			if r.wants(t, name) {
				request.InitialResourceVersions[name] = version
			}
		}
		request.ResourceNamesSubscribe = r.asked(t)
		r.say(request)
	}
}

// asked is what r names of a type; nothing is everything.
func (r *robot) asked(t Type) []string {
	var names []string
	for name := range r.names[t] {
		if t == Endpoints || t == Route {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// say sends a request, translated if r speaks SotW.
func (r *robot) say(request *discoveryv3.DeltaDiscoveryRequest) {
	if r.kind == delta {
		r.requests <- request
		return
	}
	t, _ := TypeOf(request.TypeUrl)
	r.requests <- &discoveryv3.DiscoveryRequest{
		Node: request.Node, TypeUrl: request.TypeUrl, ResourceNames: r.asked(t),
		ResponseNonce: r.nonces[request.TypeUrl], ErrorDetail: request.ErrorDetail,
	}
}

// change asks for a name more or less. In SotW it first answers everything: a request written before is ignored, and
// names given up and asked for again meanwhile would look as if nothing had happened.
func (r *robot) change() {
	for r.kind == sotw && r.answer() {
		synctest.Wait()
	}
	t := []Type{Endpoints, Route}[r.world.random.IntN(2)]
	name := fmt.Sprintf("n%d", 1+r.world.random.IntN(7))
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL()}
	if r.names[t][name] {
		delete(r.names[t], name)
		delete(r.state[t], name)
		delete(r.known[t], name)
		request.ResourceNamesUnsubscribe = []string{name}
	} else {
		r.names[t][name] = true
		request.ResourceNamesSubscribe = []string{name}
	}
	r.say(request)
}

// answer takes the oldest response and says whether there was one. Clusters and listeners are judged one by one,
// other responses as a whole, as Envoy does.
func (r *robot) answer() bool {
	url, nonce, content, removed, ok := r.read()
	if !ok {
		return false
	}
	t, _ := TypeOf(url)
	var bad []string
	for name, version := range content {
		if r.world.bad[version] {
			bad = append(bad, name)
		}
	}
	slices.Sort(bad)
	single := t == Cluster || t == Listener
	if full := r.kind == sotw && single; full {
		for name := range r.state[t] {
			if _, kept := content[name]; !kept {
				delete(r.state[t], name)
			}
		}
	}
	for name, version := range content {
		if r.wants(t, name) && !r.world.bad[version] && (single || len(bad) == 0) {
			r.state[t][name] = version
		}
	}
	for _, name := range removed {
		delete(r.state[t], name)
	}
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: nonce}
	r.nonces[url] = nonce
	if len(bad) > 0 {
		request.ErrorDetail = &statuspb.Status{Message: "bad"}
		if single {
			request.ErrorDetail.Message = "Error adding/updating " + strings.Join(bad, ": no\n") + ": no"
		}
	} else {
		r.confirm(t, content, removed)
	}
	r.say(request)
	return true
}

// confirm notes versions, which Envoy does for no part of a response that it refuses.
func (r *robot) confirm(t Type, content map[string]string, removed []string) {
	for name, version := range content {
		if r.wants(t, name) {
			r.known[t][name] = version
		}
	}
	for _, name := range removed {
		delete(r.known[t], name)
	}
}

// read takes the oldest response apart.
func (r *robot) read() (url, nonce string, content map[string]string, removed []string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.responses) == 0 {
		return "", "", nil, nil, false
	}
	first := r.responses[0]
	r.responses = r.responses[1:]
	content = map[string]string{}
	switch m := first.(type) {
	case *discoveryv3.DeltaDiscoveryResponse:
		for _, resource := range m.Resources {
			content[resource.Name] = resource.Version
		}
		return m.TypeUrl, m.Nonce, content, m.RemovedResources, true
	case *discoveryv3.DiscoveryResponse:
		for _, packed := range m.Resources {
			name, version, _ := strings.Cut(nameOf(packed.TypeUrl, packed.Value, func(v string) string { return v }), "@")
			content[name] = version
		}
		return m.TypeUrl, m.Nonce, content, nil, true
	}
	return "", "", nil, nil, false
}

// placeholder says whether that is the empty route which stands for one that does not exist.
func (r *robot) placeholder(ref Ref, version string) bool {
	if ref.Type != Route {
		return false
	}
	empty, err := NewResource(ref.Name, sample(Route, ref.Name, "empty"))
	return err == nil && empty.Version == version
}
