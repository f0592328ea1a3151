package mesh

import (
	"cmp"
	"fmt"
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
	now.notices = s.replaceNotices(before.notices, now.notices, ch)
	if now.view == nil {
		delete(s.workloads, key)
	} else {
		s.workloads[key] = &now
	}
	return !reflect.DeepEqual(before.view, now.view)
}

func (s *State) workloadOf(pod *model.Pod) workload {
	node := s.nodes[pod.Node]
	w := workload{view: &model.Workload{
		Pod:       pod,
		Namespace: pod.Key.Namespace,
		Location:  model.Location{Node: pod.Node},
		Settings:  s.settings,
	}}
	if node != nil {
		w.view.Location.Zone, w.view.Location.Region = node.Zone, node.Region
	}
	targets := s.targetsOf(pod)
	for _, p := range pod.Ports {
		if _, ok := targets[p.Number]; !ok {
			targets[p.Number] = nil
		}
	}
	for _, number := range sorted(targets) {
		port, notices := inboundPort(number, targets[number])
		w.view.Ports = append(w.view.Ports, port)
		w.notices = append(w.notices, notices...)
	}
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

// inboundPort says how a pod's port is received. Of Services that disagree on its protocol, one that declares
// it wins over one that leaves it open, and the oldest wins among those that declare.
func inboundPort(number uint16, targets []target) (model.InboundPort, []Notice) {
	port := model.InboundPort{Number: number}
	var notices []Notice
	var from model.Key
	for _, t := range targets {
		if !slices.Contains(port.Services, t.svc.fact.Key) {
			port.Services = append(port.Services, t.svc.fact.Key)
		}
		switch {
		case port.Protocol == t.port.Protocol && port.Declared == t.port.Declared:
		case from == model.Key{}, t.port.Declared && !port.Declared:
			port.Protocol, port.Declared, from = t.port.Protocol, t.port.Declared, t.svc.fact.Key
		case t.port.Declared && port.Protocol != t.port.Protocol:
			notices = append(notices, Notice{"Service", t.svc.fact.Key, fmt.Sprintf(
				"port %d is declared %s, but Service %s, which is older, declares the same port %d of its pods %s: the pods receive %s; declare the same in both",
				t.port.Number, t.port.Protocol, from, number, port.Protocol, port.Protocol)})
		}
	}
	slices.SortFunc(port.Services, model.Key.Compare)
	return port, notices
}
