package mesh

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// target is a Service port that calls arrive from at a port of a pod.
type target struct {
	svc  *service
	port model.Port
}

// updateWorkload puts what a pod's sidecar receives together and says whether it differs from before.
func (s *State) updateWorkload(key model.Key, ch *Changes) bool {
	var now workload
	if pod := s.pods[key]; pod != nil && hasSidecar(pod) {
		now = s.workloadOf(pod)
	}
	before := s.workloads[key]
	if before == nil {
		before = &workload{}
	}
	s.forgetUnchecked(key, now.view)
	now.notices = s.replaceNotices(before.notices, now.notices, ch)
	s.replaceAccessProblems(before.problems, now.problems)
	same := reflect.DeepEqual(before.view, now.view)
	if same {
		now.view = before.view
	}
	if now.view == nil {
		delete(s.workloads, key)
	} else {
		s.workloads[key] = &now
	}
	return !same
}

func (s *State) workloadOf(pod *model.Pod) workload {
	w := workload{view: &model.Workload{
		Pod:       pod,
		Namespace: pod.Key.Namespace,
		Location:  s.locationOf(pod),
		Settings:  s.settings,
	}}
	targets, declared := s.targetsOf(pod), map[uint16]model.PodPort{}
	for _, p := range slices.Backward(pod.Ports) {
		declared[p.Number] = p
	}
	access := s.joinAccess(pod, targets)
	for number := range access.numbers() {
		if _, ok := declared[number]; !ok {
			declared[number] = access.declare(number)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(both(targets, declared))) {
		in := receive(number, declared[number], targets[number])
		access.receive(&in.port)
		w.view.Ports = append(w.view.Ports, in.port)
		if in.check != nil {
			w.view.Checks = append(w.view.Checks, *in.check)
		}
		w.notices = append(append(w.notices, in.notices...), s.greetingNotices(in.port, targets[number])...)
	}
	w.view.Undeclared.Protocol = model.TCP
	access.receive(&w.view.Undeclared)
	w.problems = access.problems
	return w
}

// targetsOf finds the Service ports that arrive at a pod, by the pod's port, the oldest Service first. Slices
// say it, not selectors: they hold the number behind a named targetPort, and hand-made ones count.
func (s *State) targetsOf(pod *model.Pod) map[uint16][]target {
	all := map[uint16][]target{}
	for _, key := range sortedKeys(s.podSlices[pod.Key]) {
		slice := s.slices[key]
		svc := s.services[serviceOf(slice)]
		if svc == nil || svc.fact == nil || svc.fact.Kind == model.ExternalName || !lists(slice, pod) {
			continue
		}
		for _, sp := range slice.Ports {
			for _, p := range svc.fact.Ports {
				if t := (target{svc, p}); p.Name == sp.Name && !slices.Contains(all[sp.Number], t) {
					all[sp.Number] = append(all[sp.Number], t)
				}
			}
		}
	}
	for _, ts := range all {
		slices.SortStableFunc(ts, func(a, b target) int {
			return cmp.Or(a.svc.fact.Created.Compare(b.svc.fact.Created), a.svc.fact.Key.Compare(b.svc.fact.Key),
				cmp.Compare(a.port.Number, b.port.Number))
		})
	}
	return all
}

// lists says that a slice means this pod, and not an earlier one of its name.
func lists(slice *model.Slice, pod *model.Pod) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e model.SliceEndpoint) bool {
		return e.Pod == pod.Key.Name && (e.PodUID == "" || e.PodUID == pod.UID)
	})
}

// Pod gives the fact of a pod, sidecar or not; nil if it is not known.
func (s *State) Pod(key model.Key) *model.Pod { return s.pods[key] }

// Location says where a pod is, sidecar or not; false if the pod is not known.
func (s *State) Location(pod model.Key) (model.Location, bool) {
	p := s.pods[pod]
	if p == nil {
		return model.Location{}, false
	}
	return s.locationOf(p), true
}

func (s *State) locationOf(pod *model.Pod) model.Location {
	at := model.Location{Node: pod.Node}
	if node := s.nodes[pod.Node]; node != nil {
		at.Zone, at.Region = node.Zone, node.Region
	}
	return at
}
