package live

import (
	"slices"
	"sync"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/xds"
)

// record is what a control plane has told its observer.
type record struct {
	mu       sync.Mutex
	events   []xds.Event
	policies map[string]mesh.PolicyStatus // by ConfigMap's name
}

func newRecord() *record { return &record{policies: map[string]mesh.PolicyStatus{}} }

// Applied implements controlplane.Observer.
func (r *record) Applied(ch mesh.Changes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ch.Policies {
		r.policies[p.ConfigMap.Name] = p
	}
}

// Observe implements controlplane.Observer.
func (r *record) Observe(e xds.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// policy is the status of a policy as last told.
func (r *record) policy(name string) mesh.PolicyStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policies[name]
}

// count is how many events of a kind a proxy had, or all if none is named, of one type where types are given.
func (r *record) count(proxy string, kind xds.Kind, types ...xds.Type) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if (e.Proxy == proxy || proxy == "") && e.Kind == kind && (len(types) == 0 || slices.Contains(types, e.Type)) {
			n++
		}
	}
	return n
}

// sent is how many resources were sent, removals included, by type.
func (r *record) sent() map[xds.Type]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[xds.Type]int{}
	for _, e := range r.events {
		if e.Kind == xds.Sent && e.Resources > 0 {
			n[e.Type] += e.Resources
		}
	}
	return n
}
