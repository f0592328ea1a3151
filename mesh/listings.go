package mesh

import (
	"maps"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// Services lists all Services, sorted.
func (s *State) Services() []model.Key {
	keys := make([]model.Key, 0, len(s.services))
	for k, svc := range s.services {
		if svc.fact != nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, model.Key.Compare)
	return keys
}

// Pods lists all pods that have a Workload view, sorted.
func (s *State) Pods() []model.Key {
	return slices.SortedFunc(maps.Keys(s.workloads), model.Key.Compare)
}

// Views lists the Outbound views that there are of a Service, that of all callers first.
func (s *State) Views(key model.Key) []View {
	var all []View
	if svc := s.services[key]; svc != nil {
		for _, audience := range sorted(svc.outbounds) {
			all = append(all, View{audience, key})
		}
	}
	return all
}
