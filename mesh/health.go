package mesh

import (
	"cmp"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// finding is one reason to hold a pod's port for unhealthy. Active checks and failure streaks are findings of
// their own: the end of one does not end the other.
type finding struct {
	port   uint16
	reason model.Finding
}

// takeHealth marks a pod's endpoints for every caller, and forgets about pods that are not there. Whether the port is
// checked at all is for updateWorkload to say, which looks at it whatever else is in the batch.
func (s *State) takeHealth(r *model.HealthReport) {
	if s.pods[r.Pod] == nil {
		return
	}
	f := finding{r.Port, r.Reason}
	if s.health[r.Pod].has(f) != r.Healthy {
		return // nothing new: known to be bad, or not known to be bad
	}
	if r.Healthy {
		s.health.remove(r.Pod, f)
	} else {
		s.health.add(r.Pod, f)
	}
	s.markServicesOf(r.Pod)
	s.dirty.workloads.add(r.Pod)
}

// forgetUnchecked drops what active checks found about ports of a pod that are not checked, or not any more: nobody
// would say that they are well again.
func (s *State) forgetUnchecked(pod model.Key, w *model.Workload) {
	for f := range s.health[pod] {
		if f.reason != model.ActiveCheck || checks(w, f.port) {
			continue
		}
		s.health.remove(pod, f)
		for slice := range s.podSlices[pod] {
			s.dirty.cleared.add(serviceOf(s.slices[slice]))
		}
	}
}

// Unhealthy lists what sidecars have found out about their own applications and not taken back, in order.
func (s *State) Unhealthy() []model.HealthReport {
	var out []model.HealthReport
	for pod, found := range s.health {
		for f := range found {
			out = append(out, model.HealthReport{Pod: pod, Port: f.port, Reason: f.reason})
		}
	}
	slices.SortFunc(out, func(a, b model.HealthReport) int {
		return cmp.Or(a.Pod.Compare(b.Pod), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// checks says that a sidecar checks a port of its pod.
func checks(w *model.Workload, port uint16) bool {
	return w != nil && slices.ContainsFunc(w.Checks, func(c model.HealthCheck) bool { return c.Port == port })
}

// found says whether there is a finding of that kind about a pod's port.
func (s *State) found(pod model.Key, port uint16, reason model.Finding) bool {
	return s.health[pod].has(finding{port, reason})
}

// limitFailing leaves the mark of failing endpoints on no larger share than outlier detection allows, rounded down:
// when all fail the cause is likely elsewhere. Without outlier detection nobody asked for it.
func limitFailing(endpoints []model.Endpoint, o *model.OutlierDetection) []model.Endpoint {
	if !slices.ContainsFunc(endpoints, func(e model.Endpoint) bool { return e.Failing }) {
		return endpoints
	}
	left := 0
	if o != nil {
		left = len(endpoints) * int(o.MaxEjectionPercent) / 100
	}
	out := slices.Clone(endpoints)
	for i := range out {
		if !out[i].Failing || !out[i].Healthy {
			continue
		}
		out[i].Failing = left > 0
		left--
	}
	return out
}
