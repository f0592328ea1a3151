package mesh

import (
	"reflect"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// take stores one changed fact and marks what may look different because of it.
func (s *State) take(e *model.Event) {
	switch {
	case e.Service != nil:
		s.takeService(e.Service.Key, left(e, e.Service))
	case e.Slice != nil:
		s.takeSlice(e.Slice.Key, left(e, e.Slice))
	case e.Pod != nil:
		s.takePod(e.Pod.Key, left(e, e.Pod))
	case e.Node != nil:
		s.takeNode(e.Node.Name, left(e, e.Node))
	case e.Policy != nil:
		s.takePolicy(e.Policy.Key, left(e, e.Policy))
	case e.Health != nil:
		s.takeHealth(e.Health)
	case e.Refused != nil:
		s.takeRefusal(e.Refused)
	}
}

// left is what is left of a fact after an event: nothing if it is gone.
func left[T any](e *model.Event, fact *T) *T {
	if e.Gone {
		return nil
	}
	return fact
}

func (s *State) takeService(key model.Key, fact *model.Service) {
	svc := s.services[key]
	if svc == nil {
		if fact == nil {
			return
		}
		svc = &service{}
		s.services[key] = svc
	}
	if reflect.DeepEqual(svc.fact, fact) {
		return
	}
	svc.fact = fact
	s.dirty.reach.add(key)
	s.dirty.endpoints.add(key)
	s.dirty.outbounds.add(key)
	s.dirty.traffic.add(key)
	s.dirty.traffic.addAll(s.referrers[key])
	s.dirty.documents.addAll(s.accessOf[key])
	s.markPodsOf(key)
	s.markProtected(key)
	s.protect(key)
	s.markProtected(key)
}

func (s *State) takeSlice(key model.Key, slice *model.Slice) {
	old := s.slices[key]
	if old != nil {
		s.dirty.reach.add(serviceOf(old))
		if slice == nil || slice.Service != old.Service {
			s.slicesOf.remove(serviceOf(old), key)
		}
		delete(s.slices, key)
	}
	if slice != nil {
		s.dirty.reach.add(serviceOf(slice))
		s.slicesOf.add(serviceOf(slice), key)
		s.slices[key] = slice
	}
	s.reindexSlice(key, old, slice)
}

// reindexSlice brings the indexes by pod and by node up to date, and marks the pods that a Service begins or
// ceases to target. Most changes of a slice are of a condition, and then there is nothing to do.
func (s *State) reindexSlice(key model.Key, old, slice *model.Slice) {
	if sameTargets(old, slice) {
		return
	}
	whole := old == nil || slice == nil || old.Service != slice.Service || !slices.Equal(old.Ports, slice.Ports)
	before, after := podsOf(old), podsOf(slice)
	for pod, uid := range before {
		now, ok := after[pod]
		if !ok || now != uid {
			s.dirty.workloads.add(pod)
		}
		if !ok {
			s.podSlices.remove(pod, key)
		}
	}
	for pod := range after {
		if _, ok := before[pod]; whole || !ok {
			s.dirty.workloads.add(pod)
		}
		s.podSlices.add(pod, key)
	}
	for _, e := range endpointsOf(old) {
		s.nodeSlices.remove(e.Node, key)
	}
	for _, e := range endpointsOf(slice) {
		s.nodeSlices.add(e.Node, key)
	}
}

// sameTargets says that two versions of a slice list the same pods on the same nodes for the same ports.
func sameTargets(a, b *model.Slice) bool {
	return a != nil && b != nil && a.Service == b.Service && slices.Equal(a.Ports, b.Ports) &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, func(x, y model.SliceEndpoint) bool {
			return x.Pod == y.Pod && x.PodUID == y.PodUID && x.Node == y.Node
		})
}

func endpointsOf(slice *model.Slice) []model.SliceEndpoint {
	if slice == nil {
		return nil
	}
	return slice.Endpoints
}

// podsOf gives the pods that a slice lists, each with the UIDs by which it means it: one name may stand there for two
// pods, an earlier one and its successor.
func podsOf(slice *model.Slice) map[model.Key]string {
	pods := map[model.Key]string{}
	for _, e := range endpointsOf(slice) {
		if e.Pod != "" {
			pods[model.Key{Namespace: slice.Key.Namespace, Name: e.Pod}] += e.PodUID + ";"
		}
	}
	return pods
}

func serviceOf(slice *model.Slice) model.Key {
	return model.Key{Namespace: slice.Key.Namespace, Name: slice.Service}
}

func (s *State) takePod(key model.Key, pod *model.Pod) {
	old := s.pods[key]
	if old != nil {
		s.nodePods.remove(old.Node, key)
		s.podsIn.remove(key.Namespace, key)
		delete(s.pods, key)
	}
	if pod != nil {
		s.nodePods.add(pod.Node, key)
		s.podsIn.add(key.Namespace, key)
		s.pods[key] = pod
	}
	if old != nil && (pod == nil || old.UID != pod.UID || old.ServiceAccount != pod.ServiceAccount) {
		s.dirty.replaced.add(key)
	}
	if pod == nil || old != nil && old.UID != pod.UID {
		delete(s.health, key) // what was found out about another pod says nothing about this one
	}
	s.movePod(key, old, pod)
	s.dirty.workloads.add(key)
	s.markServicesOf(key)
}

func (s *State) takeNode(name string, node *model.Node) {
	old := s.nodes[name]
	delete(s.nodes, name)
	if node != nil {
		s.nodes[name] = node
		if old != nil && *old == *node {
			return
		}
	}
	for slice := range s.nodeSlices[name] {
		s.dirty.reach.add(serviceOf(s.slices[slice]))
	}
	for pod := range s.nodePods[name] {
		s.dirty.workloads.add(pod)
		s.markServicesOf(pod)
	}
}

// markServicesOf marks the Services that list a pod.
func (s *State) markServicesOf(pod model.Key) {
	for slice := range s.podSlices[pod] {
		s.dirty.reach.add(serviceOf(s.slices[slice]))
	}
}

// markPodsOf marks the pods that a Service lists: their sidecars receive for it.
func (s *State) markPodsOf(key model.Key) {
	for slice := range s.slicesOf[key] {
		for _, e := range s.slices[slice].Endpoints {
			if e.Pod != "" {
				s.dirty.workloads.add(model.Key{Namespace: key.Namespace, Name: e.Pod})
			}
		}
	}
}
