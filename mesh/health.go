package mesh

import "github.com/heddle-mesh/heddle/model"

// finding is one reason to hold a pod's port for unhealthy. Active checks and failure streaks are findings of
// their own: the end of one does not end the other.
type finding struct {
	port   uint16
	reason string
}

// takeHealth marks a pod's endpoints for every caller, and forgets about pods that are not there.
func (s *State) takeHealth(r *model.HealthReport) {
	if s.pods[r.Pod] == nil {
		return
	}
	f := finding{r.Port, r.Reason}
	_, known := s.health[r.Pod][f]
	switch {
	case known != r.Healthy:
		return // nothing new: known to be bad, or not known to be bad
	case r.Healthy:
		delete(s.health[r.Pod], f)
		if len(s.health[r.Pod]) == 0 {
			delete(s.health, r.Pod)
		}
	default:
		if s.health[r.Pod] == nil {
			s.health[r.Pod] = map[finding]struct{}{}
		}
		s.health[r.Pod][f] = struct{}{}
	}
	s.markServicesOf(r.Pod)
}

func (s *State) healthy(pod model.Key, port uint16) bool {
	for f := range s.health[pod] {
		if f.port == port {
			return false
		}
	}
	return true
}
