package mesh

import (
	"net/netip"
	"time"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/policy"
)

// Options say what a State starts from.
type Options struct {
	Namespace   string // the control plane's own, where mesh-wide policy lives
	TrustDomain string // default cluster.local
	// ConnectionAge is how old an HTTP connection between sidecars may become; default DefaultConnectionAge.
	ConnectionAge time.Duration
	Saved         []model.SavedPolicy // what Changes.Save said before a restart
	// Unredirected says that sidecars bind listeners themselves, each at the last two bytes of its destination's address:
	// of two Services that have these in common only one can be called.
	Unredirected bool
}

// View names one Outbound: a Service as the sidecars of one namespace see it, or all others (Audience empty).
type View struct {
	Audience string
	Key      model.Key
}

// Changes lists what an Apply changed, each list sorted. A view that is listed and now nil is gone.
type Changes struct {
	Outbounds []View
	Endpoints []model.Key // by Service
	Workloads []model.Key // by pod
	Replaced  []model.Key // pods that are gone, or are others by now: of another UID, or another account
	Settings  bool
	Policies  []PolicyStatus      // that changed
	Save      []model.SavedPolicy // what has to outlive a restart, in place of what was saved; may be Empty
	Notices   []Notice            // that hold now and did not before
}

// State is the mesh as far as it is known. The zero value is not usable; call New.
type State struct {
	options Options

	// Facts beside Services, and by what to find them: whatever an index has under a key may differ when the key's
	// object changes.
	slices     map[model.Key]*model.Slice
	pods       map[model.Key]*model.Pod
	nodes      map[string]*model.Node
	health     index[model.Key, finding]    // pod: why it is not healthy
	slicesOf   index[model.Key, model.Key]  // Service: its slices
	podSlices  index[model.Key, model.Key]  // pod: slices that list it
	nodeSlices index[string, model.Key]     // node: slices with an endpoint on it
	nodePods   index[string, model.Key]     // node: pods on it
	podsIn     index[string, model.Key]     // namespace: its pods
	podsAt     index[netip.Addr, model.Key] // pods that have an address for themselves
	namedBy    index[netip.Addr, model.Key] // headless Services whose slices name an address

	// Policies.
	documents     map[ref]*document
	items         index[model.Key, string]              // ConfigMap: keys of its data
	policiesOf    index[model.Key, ref]                 // Service: documents in force that speak of it
	meshDocuments set[ref]                              // in force, of kind Mesh
	meshLevel     level                                 // the same, in order of precedence
	builtin       level                                 // what holds without any document
	targets       map[model.Key]map[model.Key][]mention // Service: what its routes name, with subsets
	subsets       map[model.Key]subsets                 // Service: those that routes name
	referrers     index[model.Key, model.Key]           // the other way round, Service: those whose routes name it
	kept          map[ref]model.SavedPolicy             // what is saved

	// Access documents, in force or denying.
	access         map[ref]*accessPart
	accessIn       index[string, ref]             // namespace: those in it
	accessOf       index[model.Key, ref]          // Service: those that name it
	protected      map[model.Key]memory           // Services that they name, as they are or were last
	accessDefaults accessDefaults                 // of the Mesh documents
	accessProblems map[ref]map[policy.Problem]int // how many workloads say so

	// What was derived.
	services  map[model.Key]*service
	workloads map[model.Key]*workload // by pod
	settings  *model.Settings
	defaults  *resolved      // Traffic of Services that no policy speaks of
	claims    claims         // of Services on addresses
	notices   map[Notice]int // how many views say so

	dirty dirty
}

// service is a Service and what was derived of it, stage by stage.
type service struct {
	fact      *model.Service // nil once it is gone, until the end of that Apply
	reach     reach
	wants     []wish               // addresses that it needs listeners at
	traffic   map[string]*resolved // by audience
	endpoints *model.Endpoints
	outbounds map[string]*model.Outbound // by audience
	notices   []Notice
}

// workload is a view with what its making gave to say.
type workload struct {
	view     *model.Workload
	notices  []Notice
	problems []accessProblem
}

// dirty holds what the stages of an Apply have still to look at.
type dirty struct {
	documents marks[ref]
	defaults  bool             // the Mesh documents
	traffic   marks[model.Key] // Services whose policies, or what these name, may differ
	subsets   marks[model.Key] // Services of which routes name other subsets
	bounded   marks[model.Key] // Services whose routes name a subset that is within its Service's bound by now, or is not any more
	reach     marks[model.Key] // Services whose endpoints may differ
	endpoints marks[model.Key] // Services whose Endpoints view may differ
	outbounds marks[model.Key] // Services whose Outbound views may differ
	workloads marks[model.Key] // pods
	replaced  marks[model.Key] // pods
	cleared   marks[model.Key] // Services with an endpoint that nothing is held against any more, since its check is gone
}

// New makes a State that knows no facts yet.
func New(o Options) *State {
	s := &State{
		options:        o,
		slices:         map[model.Key]*model.Slice{},
		pods:           map[model.Key]*model.Pod{},
		nodes:          map[string]*model.Node{},
		health:         index[model.Key, finding]{},
		slicesOf:       index[model.Key, model.Key]{},
		podSlices:      index[model.Key, model.Key]{},
		nodeSlices:     index[string, model.Key]{},
		nodePods:       index[string, model.Key]{},
		podsIn:         index[string, model.Key]{},
		podsAt:         index[netip.Addr, model.Key]{},
		namedBy:        index[netip.Addr, model.Key]{},
		documents:      map[ref]*document{},
		items:          index[model.Key, string]{},
		policiesOf:     index[model.Key, ref]{},
		meshDocuments:  set[ref]{},
		builtin:        builtinLevel(),
		targets:        map[model.Key]map[model.Key][]mention{},
		subsets:        map[model.Key]subsets{},
		referrers:      index[model.Key, model.Key]{},
		kept:           map[ref]model.SavedPolicy{},
		access:         map[ref]*accessPart{},
		accessIn:       index[string, ref]{},
		accessOf:       index[model.Key, ref]{},
		protected:      map[model.Key]memory{},
		accessProblems: map[ref]map[policy.Problem]int{},
		services:       map[model.Key]*service{},
		workloads:      map[model.Key]*workload{},
		claims:         claims{},
		notices:        map[Notice]int{},
	}
	for _, saved := range o.Saved {
		s.kept[ref{saved.ConfigMap, saved.Item}] = saved
	}
	s.updateDefaults(&Changes{})
	s.dirty = dirty{}
	return s
}

// Apply takes in changed facts and brings every view up to date that they have to do with.
func (s *State) Apply(events []model.Event) Changes {
	for i := range events {
		s.take(&events[i])
	}
	var ch Changes
	if s.dirty.defaults {
		s.updateDefaults(&ch)
	}
	for _, key := range sortedKeys(s.dirty.reach) {
		s.updateReach(key)
	}
	for _, key := range sortedKeys(s.dirty.traffic) {
		s.updateTraffic(key)
	}
	for _, key := range sortedKeys(s.dirty.subsets) {
		s.updateSubsets(key)
	}
	for _, key := range sortedKeys(s.dirty.bounded) {
		s.updateTraffic(key) // which names the same subsets as before
	}
	for _, key := range sortedKeys(s.dirty.outbounds) {
		ch.Outbounds = append(ch.Outbounds, s.updateOutbounds(key, &ch)...)
	}
	for _, key := range sortedKeys(s.dirty.workloads) {
		if s.updateWorkload(key, &ch) {
			ch.Workloads = append(ch.Workloads, key)
		}
	}
	ch.Replaced = sortedKeys(s.dirty.replaced)
	for _, key := range sortedKeys(s.dirty.cleared) {
		s.updateReach(key) // of which only the health of endpoints differs
	}
	for _, key := range sortedKeys(s.dirty.endpoints) {
		if s.updateEndpoints(key) {
			ch.Endpoints = append(ch.Endpoints, key)
		}
	}
	for _, key := range sortedKeys(s.dirty.reach) {
		if svc := s.services[key]; svc != nil && svc.fact == nil {
			delete(s.services, key)
		}
	}
	s.report(&ch)
	s.dirty = dirty{}
	return ch
}

// Outbound gives a view of a Service for callers, nil if there is none.
func (s *State) Outbound(v View) *model.Outbound {
	if svc := s.services[v.Key]; svc != nil {
		return svc.outbounds[v.Audience]
	}
	return nil
}

// Endpoints gives the endpoints of a Service, nil if it is gone or has none by nature (ExternalName).
func (s *State) Endpoints(key model.Key) *model.Endpoints {
	if svc := s.services[key]; svc != nil {
		return svc.endpoints
	}
	return nil
}

// Workload gives what a pod's sidecar receives, nil if the pod is gone or has no sidecar.
func (s *State) Workload(pod model.Key) *model.Workload {
	if w := s.workloads[pod]; w != nil {
		return w.view
	}
	return nil
}

// Settings gives the mesh-wide options.
func (s *State) Settings() *model.Settings { return s.settings }
