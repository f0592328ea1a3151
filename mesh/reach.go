package mesh

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/model"
)

// reach is what slices, pods, nodes and health reports say about a Service, before any policy.
type reach struct {
	ports     []model.PortEndpoints // in the order of the Service's ports
	hops      []model.Hop           // likewise
	instances []instance            // Headless only; claims are not looked at yet
	accounts  []model.Key           // of pods with a sidecar, whether they get requests or not; sorted
}

// instance is a pod of a headless Service, and whether its address is the Service's to claim.
type instance struct {
	model.Instance
	ground ground
}

// candidate is an endpoint with its conditions, before it is decided whether it gets requests.
type candidate struct {
	model.Endpoint
	ready       bool // gets requests
	serving     bool // could, though it is about to end
	terminating bool
}

// updateReach computes a Service's reach anew and marks the views that differ by it.
func (s *State) updateReach(key model.Key) {
	svc := s.services[key]
	if svc == nil {
		return // slices of a Service that is not there, or not yet
	}
	var now reach
	if svc.fact != nil {
		now = s.reachOf(svc.fact)
	}
	before := svc.reach
	svc.reach = now
	if !slices.EqualFunc(before.ports, now.ports, equalPortEndpoints) {
		s.dirty.endpoints.add(key)
		for _, subset := range s.subsets[key].kept {
			if before.hasSubset(subset) != now.hasSubset(subset) {
				s.dirty.traffic.addAll(s.referrers[key]) // to tell their writers
			}
		}
	}
	if !slices.Equal(before.hops, now.hops) || !slices.Equal(before.instances, now.instances) || !slices.Equal(before.accounts, now.accounts) {
		s.dirty.outbounds.add(key)
	}
	s.nameAll(key, before.instances, now.instances)
	s.claimAll(svc, s.wants(svc.fact, now.instances))
}

// hasSubset says whether some endpoint is in a subset. All pods are no subset that one could miss.
func (r *reach) hasSubset(subset model.Labels) bool {
	return len(subset) == 0 || slices.ContainsFunc(r.ports, func(p model.PortEndpoints) bool {
		return slices.ContainsFunc(p.Endpoints, func(e model.Endpoint) bool { return e.Labels.Contains(subset) })
	})
}

func (s *State) reachOf(svc *model.Service) reach {
	if svc.Kind == model.ExternalName {
		return reach{}
	}
	keys := sortedKeys(s.slicesOf[svc.Key])
	r := reach{
		ports: make([]model.PortEndpoints, 0, len(svc.Ports)),
		hops:  make([]model.Hop, 0, len(svc.Ports)),
	}
	for _, port := range svc.Ports {
		found := s.candidates(svc, port, keys)
		r.hops = append(r.hops, hopOf(port, found))
		r.accounts = appendAccounts(r.accounts, svc.Key.Namespace, found)
		r.ports = append(r.ports, model.PortEndpoints{Port: port.Number, Endpoints: usable(svc, found)})
		if svc.Kind == model.Headless {
			r.instances = s.appendInstances(r.instances, svc, port, found)
		}
	}
	slices.SortFunc(r.accounts, model.Key.Compare)
	slices.SortStableFunc(r.instances, func(a, b instance) int { return a.Address.Compare(b.Address) })
	// Two Service ports may target one port of a pod; there is one listener for it, the first port's.
	r.instances = slices.CompactFunc(r.instances, func(a, b instance) bool { return a.Address == b.Address })
	return r
}

// candidates collects the endpoints of a Service port from all its slices, each address once, sorted. The name
// joins the two; the number is the slice's, since a named targetPort may be another number in other pods.
func (s *State) candidates(svc *model.Service, port model.Port, keys []model.Key) []candidate {
	var found []candidate
	for _, key := range keys {
		slice := s.slices[key]
		for _, p := range slice.Ports {
			if p.Name != port.Name {
				continue
			}
			found = slices.Grow(found, len(slice.Endpoints))
			for i := range slice.Endpoints {
				if c, ok := s.candidate(svc, slice, &slice.Endpoints[i], p.Number); ok {
					found = append(found, c)
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(b.rank(), a.rank()))
	})
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.Address == b.Address })
}

// rank orders what two slices say about one address: while Kubernetes moves it, the one that sends it requests
// is the newer.
func (c candidate) rank() int {
	switch {
	case c.ready:
		return 2
	case c.serving:
		return 1
	}
	return 0
}

// candidate joins a slice's endpoint with its pod. Where both disagree the slice is behind, and the endpoint is
// left out: the pod is gone or has ended, or another one has its name by now, and its address may be anybody's.
func (s *State) candidate(svc *model.Service, slice *model.Slice, e *model.SliceEndpoint, port uint16) (candidate, bool) {
	c := candidate{
		Endpoint: model.Endpoint{
			Address: netip.AddrPortFrom(e.Address, port), Healthy: true,
			Node: e.Node, Zone: e.Zone, ForZones: e.ForZones, ForNodes: e.ForNodes,
		},
		terminating: e.Terminating,
	}
	if e.Pod != "" {
		key := model.Key{Namespace: slice.Key.Namespace, Name: e.Pod}
		pod := s.pods[key]
		if !agrees(pod, e) {
			return c, false
		}
		s.describe(&c, pod, port)
	}
	if node := s.nodes[c.Node]; node != nil {
		c.Zone = cmp.Or(c.Zone, node.Zone)
		c.Region = node.Region
	}
	c.ready = (e.Ready || svc.Unready) && !c.terminating
	c.serving = e.Ready || e.Serving || svc.Unready
	return c, true
}

// agrees says that a slice's endpoint and the pod of its name are still one thing.
func agrees(pod *model.Pod, e *model.SliceEndpoint) bool {
	return pod != nil && !pod.Finished && len(pod.Addresses) > 0 && (e.PodUID == "" || e.PodUID == pod.UID)
}

// describe adds what the pod says about an endpoint.
func (s *State) describe(c *candidate, pod *model.Pod, port uint16) {
	c.Pod = pod.Key
	c.Account = pod.ServiceAccount
	c.Labels = pod.Labels
	c.Node = cmp.Or(c.Node, pod.Node)
	c.Healthy = !s.found(pod.Key, port, model.ActiveCheck)
	c.Failing = s.found(pod.Key, port, model.FailureStreak)
	// An address that is not the pod's own, such as one of a second network, is not redirected to its sidecar.
	c.Meshed = hasSidecar(pod) && !pod.Skips(port) && slices.Contains(pod.Addresses, c.Address.Addr())
	// Deletion of a pod is known before its slices follow.
	c.terminating = c.terminating || pod.Deleted
}

// hasSidecar says that traffic of a pod meets a sidecar: nothing is redirected in the host's own network.
func hasSidecar(pod *model.Pod) bool { return pod.Meshed && !pod.HostNetwork && !pod.Finished }

// usable picks the endpoints that get requests: the ready ones, else the terminating ones that still serve, as
// kube-proxy does (KEP-1669). With an internalTrafficPolicy of Local that is decided on each node by itself.
func usable(svc *model.Service, found []candidate) []model.Endpoint {
	ready := set[string]{}
	group := func(c *candidate) string {
		if svc.NodeLocal {
			return c.Node
		}
		return ""
	}
	for i := range found {
		if found[i].ready {
			ready.add(group(&found[i]))
		}
	}
	list := make([]model.Endpoint, 0, len(found))
	for i := range found {
		c := &found[i]
		if !c.ready && (ready.has(group(c)) || !c.terminating || !c.serving) {
			continue
		}
		c.Draining = !c.ready
		list = append(list, c.Endpoint)
	}
	return onePerPod(svc, list)
}

// onePerPod leaves out the second address of pods that have one of each family: counted twice, they would get
// twice their share. The family of the Service's first address is preferred, as it is what most callers use.
// Addresses of no pod are taken as one group, since nothing tells which of them belong together.
func onePerPod(svc *model.Service, list []model.Endpoint) []model.Endpoint {
	preferred := func(e model.Endpoint) bool {
		return e.Address.Addr().Is6() == (len(svc.Addresses) > 0 && svc.Addresses[0].Is6())
	}
	if !slices.ContainsFunc(list, func(e model.Endpoint) bool { return !preferred(e) }) {
		return list
	}
	covered := set[model.Key]{}
	for _, e := range list {
		if preferred(e) {
			covered.add(e.Pod)
		}
	}
	return slices.DeleteFunc(list, func(e model.Endpoint) bool { return !preferred(e) && covered.has(e.Pod) })
}

// hopOf decides what callers speak. Endpoints count that get no requests at the moment: what a pod has does not
// change by becoming ready, and a hop that is right before the first request needs no change under load.
func hopOf(port model.Port, found []candidate) model.Hop {
	if port.Protocol == model.TCP || len(found) == 0 ||
		slices.ContainsFunc(found, func(c candidate) bool { return !c.Meshed }) {
		return model.HopPlain
	}
	return model.HopMesh
}

// appendInstances adds the pods of a headless Service's port. A caller has chosen the pod by its address, so
// that a terminating one keeps its listener as long as it serves, and both families count.
func (s *State) appendInstances(list []instance, svc *model.Service, port model.Port, found []candidate) []instance {
	for _, c := range found {
		if c.ready || c.terminating && c.serving {
			i := model.Instance{Port: port.Number, Address: c.Address, Meshed: c.Meshed}
			if c.Meshed {
				i.Account = c.Account
			}
			list = append(list, instance{i, s.groundAt(svc.Key.Namespace, c.Address.Addr())})
		}
	}
	return list
}

// appendAccounts adds the accounts that are not there yet. Those of pods that get no requests at the moment count, so
// that callers know an account before the first request goes to it. There are few: most often one.
func appendAccounts(list []model.Key, namespace string, found []candidate) []model.Key {
	for i := range found {
		if a := (model.Key{Namespace: namespace, Name: found[i].Account}); found[i].Meshed && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func equalPortEndpoints(a, b model.PortEndpoints) bool {
	return a.Port == b.Port && slices.EqualFunc(a.Endpoints, b.Endpoints, equalEndpoint)
}

// equalEndpoint is written out because reflection would be most of an endpoint change's cost.
func equalEndpoint(a, b model.Endpoint) bool {
	return a.Address == b.Address && a.Healthy == b.Healthy && a.Failing == b.Failing && a.Draining == b.Draining && a.Meshed == b.Meshed &&
		a.Node == b.Node && a.Zone == b.Zone && a.Region == b.Region && a.Pod == b.Pod && a.Account == b.Account &&
		slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes) && slices.Equal(a.Labels, b.Labels)
}
