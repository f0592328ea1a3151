package translator

import (
	"net/netip"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/heddle-mesh/heddle/model"
)

// Outbound translates how callers reach one Service: per port a listener, a route configuration if it may carry
// HTTP, and a cluster for all its pods and for each subset. A headless Service has a listener and a cluster per pod
// instead, because its callers address pods.
func Outbound(o *model.Outbound, capture Capture) Resources {
	var out Resources
	for _, p := range o.Ports {
		if p.Protocol != model.TCP {
			out.Routes = append(out.Routes, routeConfiguration(o, p, PortName(o.Service.Key, p.Number), ownCluster(o, p)))
		}
		if len(p.Addresses) > 0 {
			out.Listeners = append(out.Listeners, portListener(o, p, capture))
		}
		out.Clusters = append(out.Clusters, portClusters(o, p)...)
	}
	for _, i := range o.Instances {
		out.append(instance(o, i, capture))
	}
	return out
}

func (r *Resources) append(more Resources) {
	r.Listeners = append(r.Listeners, more.Listeners...)
	r.Routes = append(r.Routes, more.Routes...)
	r.Clusters = append(r.Clusters, more.Clusters...)
	r.Endpoints = append(r.Endpoints, more.Endpoints...)
}

// ownCluster is where a port's requests go without a route.
func ownCluster(o *model.Outbound, p model.OutboundPort) string {
	return ClusterName(o.Service.Key, p.Number, nil)
}

// portListener stands for a Service's addresses at one port.
func portListener(o *model.Outbound, p model.OutboundPort, capture Capture) *listenerv3.Listener {
	name := PortName(o.Service.Key, p.Number)
	l := outboundListener(o, p, outboundTarget{cluster: ownCluster(o, p), routes: rds(name)})
	l.Name = name
	bind(l, capture, p.Addresses, p.Number)
	return l
}

// instance translates one pod of a headless Service. Its routes are inside its listener: they are this pod's alone.
func instance(o *model.Outbound, i model.Instance, capture Capture) Resources {
	p, ok := portOf(o, i.Port)
	if !ok {
		return Resources{}
	}
	p.Hop = model.HopPlain
	if i.Meshed {
		p.Hop = model.HopMesh
	}
	name := instanceName(o.Service.Key, i)
	target := outboundTarget{cluster: name}
	if p.Protocol != model.TCP {
		target.inline = routeConfiguration(o, p, name, name)
	}
	l := outboundListener(o, p, target)
	l.Name = name
	bind(l, capture, []netip.Addr{i.Address.Addr()}, i.Address.Port())
	var out Resources
	out.Listeners = append(out.Listeners, l)
	out.Clusters = append(out.Clusters, instanceCluster(o, p, i))
	return out
}

func portOf(o *model.Outbound, number uint16) (model.OutboundPort, bool) {
	for _, p := range o.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return model.OutboundPort{}, false
}

// bind gives a listener its addresses. Under redirection nothing is bound: the capture listener hands connections
// over by their original destination.
func bind(l *listenerv3.Listener, capture Capture, addresses []netip.Addr, port uint16) {
	l.Address = socket(capture.outboundAddress(addresses[0]), uint32(port))
	if capture.Redirected() {
		l.BindToPort = no()
	}
	if !capture.Redirected() {
		return // one loopback address stands for all families
	}
	for _, a := range addresses[1:] {
		l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: socket(a, uint32(port))})
	}
}

// outboundTarget is where an outbound listener sends: TCP to a cluster, HTTP by routes that are fetched or inline.
type outboundTarget struct {
	cluster string
	routes  routeSource
	inline  *routev3.RouteConfiguration
}
