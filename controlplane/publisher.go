package controlplane

import (
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// publisher translates views and publishes what came of them. It remembers which resources each view gave, so that
// what a view gives no longer is removed. Only the loop uses it.
type publisher struct {
	state   *mesh.State
	store   *xds.Store
	metrics *metrics
	log     zerolog.Logger

	proxies   map[model.Key]*proxy   // connected, by pod
	attached  uint64                 // how many there were ever
	locations map[model.Location]int // of connected proxies, how many are at each zone and each node
	published map[xds.Layer]map[unit]refs
	checkers  map[model.Key][]*checker                   // by pod
	meters    map[model.Key]map[*meter]bool              // the same
	streaks   map[model.HealthReport]*time.Timer         // by the report that ends a streak
	standing  map[model.HealthReport]*model.HealthReport // what came since; by the report without its result
	sendAway  func(proxy string)                         // ends its streams, so that it comes back
	pending   map[xds.Layer]*xds.Update
}

// unit is what is translated at once: one view in one layer.
type unit struct {
	kind string // outbound, listeners, endpoints, inbound, frame, proxyless
	key  model.Key
}

// refs are the resources that a unit published.
type refs map[xds.Ref]bool

func newPublisher(state *mesh.State, store *xds.Store, m *metrics, log zerolog.Logger) *publisher {
	return &publisher{
		state: state, store: store, metrics: m, log: log,
		proxies:   map[model.Key]*proxy{},
		locations: map[model.Location]int{},
		published: map[xds.Layer]map[unit]refs{},
		checkers:  map[model.Key][]*checker{},
		meters:    map[model.Key]map[*meter]bool{},
		streaks:   map[model.HealthReport]*time.Timer{},
		standing:  map[model.HealthReport]*model.HealthReport{},
		sendAway:  func(string) {},
		pending:   map[xds.Layer]*xds.Update{},
	}
}

// changes publishes everything that a batch of events changed, at once.
func (p *publisher) changes(ch mesh.Changes) {
	p.review(ch.Replaced)
	if ch.Settings {
		p.frame()
	}
	for _, v := range ch.Outbounds {
		p.outbound(v)
	}
	for _, k := range ch.Endpoints {
		p.endpoints(k)
	}
	for _, k := range ch.Workloads {
		if px := p.proxies[k]; px != nil && !p.moved(px) {
			p.inbound(px)
		}
		p.tellChecks(k)
	}
	p.flush()
}

// frame publishes what every sidecar has.
func (p *publisher) frame() {
	r := translator.Frame(p.state.Settings(), translator.Capture{})
	p.put(meshLayer, unit{"frame", model.Key{}}, messages(translator.Resources{Clusters: r.Clusters}))
	p.put(redirectedLayer, unit{"frame", model.Key{}}, messages(translator.Resources{Listeners: r.Listeners}))
}

// outbound publishes how callers reach a Service: to all, and the listeners of each sidecar that binds its own.
func (p *publisher) outbound(v mesh.View) {
	layer, listeners := audienceLayers(v.Audience)
	o := p.state.Outbound(v)
	var r translator.Resources
	if o != nil {
		p.metrics.translated("outbound")
		r = translator.Outbound(o, translator.Capture{})
	}
	p.put(listeners, unit{"listeners", v.Key}, messages(translator.Resources{Listeners: r.Listeners}))
	r.Listeners = nil
	p.put(layer, unit{"outbound", v.Key}, messages(r))
	if v.Audience == "" {
		p.proxyless(v.Key, o)
	}
	for _, px := range p.proxies {
		if !px.capture.Redirected() && (v.Audience == "" || v.Audience == px.pod.Namespace) {
			p.boundListeners(px, v.Key)
		}
	}
}

// proxyless publishes the API listeners of a Service and their clusters, which are given to those who ask for them by name.
func (p *publisher) proxyless(k model.Key, o *model.Outbound) {
	var list []named
	if o != nil {
		list = messages(translator.Proxyless(o))
		for i := range list {
			list[i].options = []xds.Option{xds.OnRequest}
		}
	}
	p.put(meshLayer, unit{"proxyless", k}, list)
}

// boundListeners publishes the listeners of one Service for one sidecar without redirection.
func (p *publisher) boundListeners(px *proxy, k model.Key) {
	o := p.state.Outbound(mesh.View{Audience: px.pod.Namespace, Key: k})
	if o == nil {
		o = p.state.Outbound(mesh.View{Key: k})
	}
	var r translator.Resources
	if o != nil {
		p.metrics.translated("bound_listeners")
		r.Listeners = translator.Outbound(o, px.capture).Listeners
	}
	p.put(px.layer, unit{"listeners", k}, messages(r))
}

// endpoints publishes where a Service's pods are: once for all, and for each place that has callers where closeness
// counts.
func (p *publisher) endpoints(k model.Key) {
	e := p.state.Endpoints(k)
	p.endpointsAt(meshLayer, e, k, model.Location{})
	for at := range p.locations {
		p.endpointsNear(e, k, at)
	}
}

func (p *publisher) endpointsNear(e *model.Endpoints, k model.Key, at model.Location) {
	layer, zone := zoneLayer(at), model.PreferZone
	if at.Node != "" {
		layer, zone = nodeLayer(at), model.PreferNode
	}
	if e != nil && translator.Local(e) != zone {
		e = nil
	}
	p.endpointsAt(layer, e, k, at)
}

func (p *publisher) endpointsAt(layer xds.Layer, e *model.Endpoints, k model.Key, at model.Location) {
	var list []named
	if e != nil {
		p.metrics.translated("endpoints")
		for _, a := range translator.Assignments(e, at) {
			list = append(list, named{name: a.Cluster, assignment: a.Value})
		}
	}
	p.put(layer, unit{"endpoints", k}, list)
}

// inbound publishes what one sidecar receives.
func (p *publisher) inbound(px *proxy) {
	w := p.state.Workload(px.pod)
	if w == nil {
		return // a gRPC client without a sidecar; or the pod is gone, and its sidecar drains with what it has
	}
	p.metrics.translated("inbound")
	p.put(px.layer, unit{"inbound", px.pod}, messages(translator.Inbound(w, px.capture)))
}

// named is a message with its resource name and how it is served. Endpoints are marshalled already.
type named struct {
	name       string
	message    proto.Message
	assignment []byte // instead of message
	options    []xds.Option
}

func (n *named) resource() (*xds.Resource, error) {
	if n.message == nil {
		return xds.NewAssignment(n.name, n.assignment)
	}
	return xds.NewResource(n.name, n.message, n.options...)
}

func messages(r translator.Resources) []named {
	var out []named
	for _, c := range r.Clusters {
		out = append(out, named{name: c.Name, message: c})
	}
	for _, e := range r.Endpoints {
		out = append(out, named{name: e.ClusterName, message: e})
	}
	for _, l := range r.Listeners {
		out = append(out, named{name: l.Name, message: l})
	}
	for _, c := range r.Routes {
		out = append(out, named{name: c.Name, message: c})
	}
	return out
}

// put makes resources the whole of what a unit publishes in a layer. One that cannot be made keeps what was published
// under its name: a fault of ours must not take a working Service away.
func (p *publisher) put(layer xds.Layer, u unit, list []named) {
	before := p.published[layer][u]
	if len(before) == 0 && len(list) == 0 {
		return
	}
	now, update := make(refs, len(list)), p.update(layer)
	for _, n := range list {
		r, err := n.resource()
		if err != nil {
			p.metrics.faults.Inc()
			p.log.Error().Err(err).Str("layer", string(layer)).Stringer("object", u.key).
				Msg("made a resource that Envoy would refuse; the one before stays: please report this")
			stay(before, n.name, now)
			continue
		}
		now[r.Ref] = true
		update.Set = append(update.Set, r)
	}
	for ref := range before {
		if !now[ref] {
			update.Remove = append(update.Remove, ref)
		}
	}
	p.remember(layer, u, now)
}

func stay(before refs, name string, now refs) {
	for ref := range before {
		if ref.Name == name {
			now[ref] = true
		}
	}
}

func (p *publisher) remember(layer xds.Layer, u unit, now refs) {
	units := p.published[layer]
	if units == nil {
		units = map[unit]refs{}
		p.published[layer] = units
	}
	if len(now) > 0 {
		units[u] = now
		return
	}
	delete(units, u)
	if len(units) == 0 {
		delete(p.published, layer)
	}
}

// drop removes everything in a layer.
func (p *publisher) drop(layer xds.Layer) {
	for _, u := range slices.Collect(maps.Keys(p.published[layer])) {
		p.put(layer, u, nil)
	}
}

func (p *publisher) update(layer xds.Layer) *xds.Update {
	u := p.pending[layer]
	if u == nil {
		u = &xds.Update{Layer: layer}
		p.pending[layer] = u
	}
	return u
}

// flush makes everything that was put visible at once.
func (p *publisher) flush() {
	updates := make([]xds.Update, 0, len(p.pending))
	for _, u := range p.pending {
		updates = append(updates, *u)
	}
	clear(p.pending)
	p.store.Publish(updates...)
}
