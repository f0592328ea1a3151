package translator

import (
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Resources are what one translation gives, each kind in the order of the view.
type Resources struct {
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
}

// Capture is how traffic gets into a sidecar. The zero value is the usual: the pod's traffic is redirected to ports
// 15001 and 15006, and listeners stand for original destinations without binding them.
type Capture struct {
	// Bind is a /16 of loopback addresses that outbound listeners really bind, where there is no redirection: the
	// listener of ClusterIP a.b.c.d is at the prefix followed by c.d. Inbound listeners then bind the pod's address.
	Bind netip.Prefix
	// App is the address at which the application listens then, on the pod's own port numbers.
	App netip.Addr
}

// Redirected says that traffic is redirected, so nothing but the two capture ports is bound.
func (c Capture) Redirected() bool { return !c.Bind.IsValid() }

// outboundAddress is where the listener for a destination address stands.
func (c Capture) outboundAddress(a netip.Addr) netip.Addr {
	if c.Redirected() {
		return a
	}
	return low16(c.Bind, a)
}
