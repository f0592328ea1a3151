package demo

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
	"github.com/heddle-mesh/heddle/xds"
)

// watcher stands between the folder and the control plane. It sees the same events and joins them in the same way, so
// it knows what the policies ask for; and it tells what an edit changed and when the sidecars had it.
type watcher struct {
	source controlplane.Source
	synced chan struct{} // closed when the folder was read

	mu       sync.Mutex
	state    *mesh.State
	ready    bool
	pods     map[model.Key]*model.Pod
	services map[model.Key]netip.Addr
	latest   map[document]string // texts, as they are now
	inForce  map[document]string // texts, as they were when they were accepted last
	news     []news
	change   *change // the last one; nil before the first
}

// document is one policy document.
type document struct {
	configMap model.Key
	item      string
}

func (d document) String() string { return d.configMap.String() + " " + d.item }

// news is one line of what happened.
type news struct {
	at   time.Time
	kind newsKind
	text string
}

type newsKind uint8

const (
	newsPolicy newsKind = iota // somebody edited a policy
	newsWrong                  // somebody should look
	newsMesh                   // the mesh did something
	newsShop                   // the demo's own doing
)

// change is an edit that took effect.
type change struct {
	at        time.Time
	endpoints bool            // it changed endpoints
	answers   map[answer]bool // that were counted
	acked     map[string]bool // sidecars that have it
	last      time.Time       // of these
}

// answer is what a sidecar says to what was sent for a change: once for each type of resource.
type answer struct {
	proxy string
	kind  xds.Type
}

// editTime is how close together the parts of one edit are.
const editTime = 2 * time.Second

func newWatcher(source controlplane.Source) *watcher {
	return &watcher{
		source: source, synced: make(chan struct{}), state: mesh.New(mesh.Options{Namespace: controlplane.DefaultNamespace}),
		pods: map[model.Key]*model.Pod{}, services: map[model.Key]netip.Addr{},
		latest: map[document]string{}, inForce: map[document]string{},
	}
}

// Run implements controlplane.Source.
func (w *watcher) Run(ctx context.Context, out func([]model.Event)) error {
	return w.source.Run(ctx, func(events []model.Event) {
		w.take(time.Now(), events)
		out(events)
	})
}

// take learns what a batch says.
func (w *watcher) take(now time.Time, events []model.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		switch {
		case e.Pod != nil:
			put(w.pods, e.Pod.Key, e.Pod, e.Gone)
		case e.Service != nil && len(e.Service.Addresses) > 0:
			put(w.services, e.Service.Key, e.Service.Addresses[0], e.Gone)
		case e.Policy != nil:
			w.read(e.Policy, e.Gone)
		}
	}
	ch := w.state.Apply(events)
	for _, n := range w.edits(now, ch.Policies) {
		if w.ready {
			w.add(n)
		}
	}
	if w.ready {
		w.follow(now, ch)
	}
	if !w.ready && slices.ContainsFunc(events, func(e model.Event) bool { return e.Synced }) {
		w.ready = true
		close(w.synced)
	}
}

func put[K comparable, V any](m map[K]V, k K, v V, gone bool) {
	if gone {
		delete(m, k)
		return
	}
	m[k] = v
}

// read takes in the texts of a policy ConfigMap.
func (w *watcher) read(p *model.PolicyText, gone bool) {
	maps.DeleteFunc(w.latest, func(d document, _ string) bool { return d.configMap == p.Key })
	if gone {
		return
	}
	for _, d := range p.Documents {
		w.latest[document{p.Key, d.Item}] = d.Text
	}
}

// edits tells how policies differ from what was in force before.
func (w *watcher) edits(now time.Time, changed []mesh.PolicyStatus) []news {
	var out []news
	for _, s := range changed {
		d := document{s.ConfigMap, s.Item}
		switch {
		case s.Gone:
			out = append(out, news{now, newsPolicy, d.String() + " removed"})
			delete(w.inForce, d)
		case s.Accepted:
			text := d.String() + " is in force"
			if before, known := w.inForce[d]; known {
				text = d.String() + ": " + orElse(strings.Join(edits(before, w.latest[d]), ", "), "as it was before")
			}
			out = append(out, news{now, newsPolicy, text})
			w.inForce[d] = w.latest[d]
		default:
			text := d.String() + " refused: "
			if _, known := w.inForce[d]; known {
				text += "what was good before stays in force"
			} else {
				text += "nothing of it is in force"
			}
			out = append(out, news{now, newsWrong, text})
		}
		for _, problem := range s.Problems {
			if problem.Severity == policy.Error {
				out = append(out, news{now, newsWrong, problem.String()})
			}
		}
	}
	return out
}

// follow begins to watch a change on its way to the sidecars.
func (w *watcher) follow(now time.Time, ch mesh.Changes) {
	if len(ch.Outbounds)+len(ch.Workloads)+len(ch.Endpoints) > 0 || ch.Settings {
		w.change = &change{at: now, endpoints: len(ch.Endpoints) > 0, answers: map[answer]bool{}, acked: map[string]bool{}}
	}
	if len(ch.Policies) == 0 {
		for _, k := range ch.Endpoints {
			w.add(news{now, newsPolicy, k.String() + ": other endpoints"})
		}
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// keptNews is how many lines are kept.
const keptNews = 100

// add must be called with the lock held.
func (w *watcher) add(n news) {
	w.news = append(w.news, n)
	w.news = w.news[max(0, len(w.news)-keptNews):]
}

// note adds news from elsewhere.
func (w *watcher) note(n news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(n)
}

// Applied implements controlplane.Observer.
func (w *watcher) Applied(mesh.Changes) {}

// Observe implements controlplane.Observer: it counts who has a change, and tells who refused one.
func (w *watcher) Observe(e xds.Event) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.Kind == xds.Acked && w.change != nil && w.change.counts(now, e):
		w.change.answers[answer{e.Proxy, e.Type}] = true
		w.change.acked[e.Proxy] = true
		w.change.last = now
	case e.Kind == xds.Refused:
		w.add(news{now, newsWrong, fmt.Sprintf("the sidecar of %s refused: %s", e.Proxy, e.Reason)})
	}
}

// counts says whether an answer is to what was sent for the change, and not to what came later: endpoints, whenever
// somebody's health is reported, and after the drain the removal of what nobody uses any more.
func (c *change) counts(now time.Time, e xds.Event) bool {
	sent := now.Add(-e.Took)
	return e.Resources > 0 && !sent.Before(c.at) && sent.Before(c.at.Add(drain)) &&
		(e.Type != xds.Endpoints || c.endpoints) && !c.answers[answer{e.Proxy, e.Type}]
}

// lookup implements directory.
func (w *watcher) lookup(key model.Key) (netip.Addr, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.services[key]
	return a, ok
}

// allPods gives the pods of the folder.
func (w *watcher) allPods() []*model.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.pods))
}

// outbound gives what policies say of a Service for callers in a namespace; nil if there is no such Service.
func (w *watcher) outbound(namespace string, service model.Key) *model.Outbound {
	w.mu.Lock()
	defer w.mu.Unlock()
	if own := w.state.Outbound(mesh.View{Audience: namespace, Key: service}); own != nil {
		return own
	}
	return w.state.Outbound(mesh.View{Key: service})
}

// heard is what there is to tell.
type heard struct {
	news    []news
	changed time.Time     // of the last change; zero if there was none
	acked   int           // sidecars that have it
	took    time.Duration // until the last of these had it
}

func (w *watcher) hear() heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := heard{news: slices.Clone(w.news)}
	if w.change != nil {
		h.changed, h.acked = w.change.at, len(w.change.acked)
		if h.acked > 0 {
			h.took = w.change.last.Sub(w.change.at)
		}
	}
	return h
}
