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
