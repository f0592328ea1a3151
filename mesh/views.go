package mesh

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// updateEndpoints puts a Service's Endpoints view together and says whether it differs from the one before.
func (s *State) updateEndpoints(key model.Key) bool {
	svc := s.services[key]
	if svc == nil {
		return false
	}
	now := s.endpointsView(svc)
	if equalEndpoints(svc.endpoints, now) {
		return false
	}
	svc.endpoints = now
	return true
}

func (s *State) endpointsView(svc *service) *model.Endpoints {
	if svc.fact == nil || svc.fact.Kind == model.ExternalName {
		return nil
	}
	shared := svc.traffic[""]
	view := &model.Endpoints{
		Service:   svc.fact.Key,
		Ports:     withoutFailing(svc.reach.ports, shared.traffic.Outlier),
		Prefer:    preference(svc.fact, shared.locality),
		NodeLocal: svc.fact.NodeLocal,
		Subsets:   s.subsets[svc.fact.Key].kept,
	}
	if o := shared.traffic.Origin(fieldLoadBalancer); shared.locality != "" && !o.IsZero() {
		view.Origins = []model.Origin{o}
	}
	return view
}

func withoutFailing(ports []model.PortEndpoints, o *model.OutlierDetection) []model.PortEndpoints {
	out := slices.Clone(ports)
	for i := range out {
		out[i].Endpoints = limitFailing(out[i].Endpoints, o)
	}
	return out
}

func equalEndpoints(a, b *model.Endpoints) bool {
	if a == nil || b == nil {
		return a == b
	}
	if !slices.EqualFunc(a.Ports, b.Ports, equalPortEndpoints) {
		return false
	}
	x, y := *a, *b
	x.Ports, y.Ports = nil, nil
	return reflect.DeepEqual(x, y)
}

// updateOutbounds puts every view of a Service together and gives those that differ from the ones before.
func (s *State) updateOutbounds(key model.Key, ch *Changes) []View {
	svc := s.services[key]
	if svc == nil {
		return nil
	}
	before := svc.outbounds
	svc.outbounds = map[string]*model.Outbound{}
	var notices []Notice
	if svc.fact != nil && svc.fact.Kind != model.ExternalName {
		var lost []netip.AddrPort
		for audience, resolved := range svc.traffic {
			svc.outbounds[audience], lost = s.outboundView(svc, audience, resolved)
		}
		notices = append(s.serviceNotices(svc.fact, lost), foreignNotices(svc)...)
	}
	svc.notices = s.replaceNotices(svc.notices, notices, ch)
	var changed []View
	for _, audience := range sorted(both(before, svc.outbounds)) {
		was, is := before[audience], svc.outbounds[audience]
		if !reflect.DeepEqual(was, is) {
			changed = append(changed, View{audience, key})
		} else if is != nil {
			svc.outbounds[audience] = was
		}
	}
	return changed
}

// outboundView gives the view for an audience, and the addresses that other Services claimed first.
func (s *State) outboundView(svc *service, audience string, r *resolved) (*model.Outbound, []netip.AddrPort) {
	out := &model.Outbound{
		Service: svc.fact, Audience: audience, Traffic: r.traffic, Subsets: s.subsets[svc.fact.Key].kept, Accounts: svc.reach.accounts, Settings: s.settings,
	}
	var lost []netip.AddrPort
	own := func(a netip.AddrPort) bool {
		if s.claims.owner(s.listenerAt(a)) == svc.fact.Key {
			return true
		}
		lost = append(lost, a)
		return false
	}
	for i, p := range svc.fact.Ports {
		port := model.OutboundPort{Port: p, Hop: svc.reach.hops[i]}
		if r.routes != nil {
			port.Routes = r.routes[i]
		}
		for _, a := range svc.fact.Addresses {
			if own(netip.AddrPortFrom(a, p.Number)) {
				port.Addresses = append(port.Addresses, a)
			}
		}
		out.Ports = append(out.Ports, port)
	}
	for _, i := range svc.reach.instances {
		if i.ground != foreignPod && own(i.Address) {
			out.Instances = append(out.Instances, i.Instance)
		}
	}
	return out, lost
}

// serviceNotices says what of a Service works less well than it could.
func (s *State) serviceNotices(svc *model.Service, lost []netip.AddrPort) []Notice {
	var all []Notice
	say := func(format string, args ...any) {
		all = append(all, serviceNotice(svc.Key, fmt.Sprintf(format, args...)))
	}
	if len(svc.Ignored) > 0 {
		say("the mesh carries TCP only: ports %s go past it as without a mesh", strings.Join(svc.Ignored, ", "))
	}
	for _, p := range svc.Ports {
		if p.Protocol == model.Detect {
			say("port %d does not say what it carries: until a client sends its first bytes, for at most %s, nothing is passed on; begin the port's name with http-, grpc- or tcp-, or set appProtocol",
				p.Number, s.settings.DetectionTimeout)
		}
	}
	if len(lost) > 0 && svc.Kind == model.ClusterIP {
		all = append(all, s.lostNotice(svc, lost[0]))
	}
	return all
}

// foreignNotices says that the slices of a headless Service name an address that is not the Service's to have.
func foreignNotices(svc *service) []Notice {
	at := slices.IndexFunc(svc.reach.instances, func(i instance) bool { return i.ground == foreignPod })
	if at < 0 {
		return nil
	}
	return []Notice{serviceNotice(svc.fact.Key, fmt.Sprintf(
		"its EndpointSlices name %s, which a pod of another namespace has: calls to it do not follow this Service's policy; take the address out of them, or put the Service into the pod's namespace",
		svc.reach.instances[at].Address))}
}

// lostNotice says that a Service cannot be called at an address, because the older one that has it is called.
func (s *State) lostNotice(svc *model.Service, lost netip.AddrPort) Notice {
	if s.options.Unredirected {
		return serviceNotice(svc.Key, fmt.Sprintf(
			"without redirection it cannot be called at %s: the last two bytes of an address count, and Service %s, which is older, has the same; give one of the two another address",
			lost, s.claims.owner(s.listenerAt(lost))))
	}
	return serviceNotice(svc.Key, fmt.Sprintf(
		"an older Service has the address %s: calls to it follow that Service's policy; delete one of the two", lost))
}
