package translator_test

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
)

// served is what the sidecars of a mesh are told between them, in the form of one Envoy's static configuration. No
// single sidecar has all of it: what has another's name or address and is not the same is moved.
type served struct {
	listeners []*listenerv3.Listener
	clusters  []*clusterv3.Cluster
	names     map[string]proto.Message
	places    map[string]bool
	layers    map[string]int // where resources came from: mesh, namespace, zone, node, pod, proxyless, checks
}

// everythingIn translates all that a state holds, for each of its sidecars and callers.
func everythingIn(s *mesh.State, captures ...translator.Capture) *served {
	out := &served{}
	for _, capture := range captures {
		out.add("mesh", translator.Frame(s.Settings(), capture))
		for _, k := range s.Services() {
			for _, v := range s.Views(k) {
				layer := "mesh"
				if v.Audience != "" {
					layer = "namespace"
				}
				out.add(layer, translator.Outbound(s.Outbound(v), capture))
			}
		}
		for _, k := range s.Pods() {
			out.add("pod", translator.Inbound(s.Workload(k), capture))
			out.addChecks(translator.HealthChecks(s.Workload(k), capture))
		}
	}
	for _, k := range s.Services() {
		if o := s.Outbound(mesh.View{Key: k}); o != nil {
			out.addProxyless(translator.Proxyless(o))
		}
		if e := s.Endpoints(k); e != nil {
			out.add("mesh", translator.Resources{Endpoints: translator.Endpoints(e, model.Location{})})
			for _, at := range callersOf(s, e) {
				layer := map[model.Preference]string{model.PreferZone: "zone", model.PreferNode: "node"}[translator.Local(e)]
				out.add(layer, translator.Resources{Endpoints: translator.Endpoints(e, at)})
			}
		}
	}
	return out
}

// callersOf are the places whose callers have a list of endpoints of their own.
func callersOf(s *mesh.State, e *model.Endpoints) []model.Location {
	if translator.Local(e) == model.PreferNone {
		return nil
	}
	var out []model.Location
	for _, k := range s.Pods() {
		out = append(out, s.Workload(k).Location)
	}
	for _, p := range e.Ports {
		for _, ep := range p.Endpoints {
			out = append(out, model.Location{Region: ep.Region, Zone: ep.Zone, Node: ep.Node})
		}
	}
	return out
}

// add takes in resources as sidecars get them: routes inside a listener each, endpoints inside a cluster each.
func (s *served) add(layer string, r translator.Resources) {
	for _, l := range r.Listeners {
		s.listener(layer, l)
	}
	for _, c := range r.Clusters {
		s.cluster(layer, c)
	}
	for _, rc := range r.Routes {
		s.listener(layer, listenerWith(rc.Name+" in a listener", &hcmv3.HttpConnectionManager{
			StatPrefix:     "golden",
			RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc},
			HttpFilters: []*hcmv3.HttpFilter{{
				Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
			}},
		}))
	}
	for _, e := range r.Endpoints {
		e, name := proto.CloneOf(e), e.ClusterName+" in a cluster"
		e.ClusterName = name
		s.cluster(layer, &clusterv3.Cluster{Name: name, LoadAssignment: e})
	}
}

// addProxyless takes in what gRPC clients get. Envoy has API listeners only where it is built into an application; the
// connection managers inside are what others have, so they get a listener around them.
func (s *served) addProxyless(r translator.Resources) {
	for _, l := range r.Listeners {
		m, err := l.ApiListener.ApiListener.UnmarshalNew()
		if err != nil {
			panic(err)
		}
		s.listener("proxyless", listenerWith(l.Name, m))
	}
	r.Listeners = nil
	s.add("proxyless", r)
}

// addChecks takes in what a sidecar is asked to check over HDS. That is no resource: Envoy makes a cluster with health
// checks of each part, which may speak HTTP/2, and so does this.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/health/v3/hds.proto
func (s *served) addChecks(checks *healthv3.HealthCheckSpecifier) {
	for _, c := range checks.GetClusterHealthChecks() {
		name := c.ClusterName + " checked"
		a := &endpointv3.ClusterLoadAssignment{ClusterName: name}
		for _, l := range c.LocalityEndpoints {
			group := &endpointv3.LocalityLbEndpoints{Locality: l.Locality}
			for _, e := range l.Endpoints {
				group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: e}})
			}
			a.Endpoints = append(a.Endpoints, group)
		}
		http2 := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{},
			},
		}}
		s.cluster("checks", &clusterv3.Cluster{
			TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(http2)},

			Name: name, HealthChecks: c.HealthChecks, LoadAssignment: a,
			TransportSocketMatches: c.TransportSocketMatches, ConnectTimeout: durationpb.New(1e9),
		})
	}
}

func (s *served) listener(layer string, l *listenerv3.Listener) {
	name, isNew := s.name(layer, "listener ", l.Name, l)
	if !isNew {
		return
	}
	place := l.Address.String()
	if name != l.Name || l.Address == nil || s.places[place] {
		l = proto.CloneOf(l)
		l.Name = name
		s.move(l)
	}
	s.places[place] = true
	s.listeners = append(s.listeners, l)
}

// move gives a listener an address where no other is.
func (s *served) move(l *listenerv3.Listener) {
	free := 20000 + len(s.listeners)
	if pipe := l.Address.GetPipe(); pipe != nil {
		pipe.Path += fmt.Sprintf("-%d", free)
		return
	}
	port := &corev3.SocketAddress_PortValue{PortValue: uint32(free)}
	if l.Address == nil {
		l.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1"}}}
	}
	l.Address.GetSocketAddress().PortSpecifier = port
	for _, a := range l.AdditionalAddresses {
		a.Address.GetSocketAddress().PortSpecifier = port
	}
}

func (s *served) cluster(layer string, c *clusterv3.Cluster) {
	name, isNew := s.name(layer, "cluster ", c.Name, c)
	if !isNew {
		return
	}
	if name != c.Name {
		c = proto.CloneOf(c)
		c.Name = name
		if c.LoadAssignment != nil {
			c.LoadAssignment.ClusterName = name
		}
	}
	s.clusters = append(s.clusters, c)
}

// name gives a resource a name of its own, and says whether it is one that is not there yet.
func (s *served) name(layer, kind, name string, m proto.Message) (string, bool) {
	if s.names == nil {
		s.names, s.places, s.layers = map[string]proto.Message{}, map[string]bool{}, map[string]int{}
	}
	s.layers[layer]++
	for i, unique := 2, name; ; i++ {
		other := s.names[kind+unique]
		if other == nil {
			s.names[kind+unique] = m
			return unique, true
		}
		if proto.Equal(other, m) {
			return unique, false
		}
		unique = fmt.Sprintf("%s, form %d, of %s", name, i, layer)
	}
}

// listenerWith is a listener around a connection manager, anywhere.
func listenerWith(name string, manager proto.Message) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
		}}}},
	}
}

func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}
