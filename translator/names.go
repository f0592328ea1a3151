package translator

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/model"
)

// Names of resources and headers. Statistics carry the same names, so that whoever reads a graph, a config dump or
// an access log meets one vocabulary.
const (
	passthroughCluster = "passthrough" // whatever is no Service, to where it was going
	refusedCluster     = "refused"     // the same where the mesh refuses it: a cluster without endpoints
	outboundCapture    = "outbound"
	inboundCapture     = "inbound"
	inboundAny         = "in|any"
	inboundLate        = "in|late"

	// headerFailure is how a server's sidecar tells the caller's that it, not the application, made up an answer:
	// connect (no connection to the application) or reset (the connection or stream broke before a response). Callers' retries
	// and outlier detection go by it; it never reaches an application.
	headerFailure = "x-heddle-failure"
	// headerFlags is how a caller's sidecar tells its application that it made up an answer itself, and why.
	headerFlags = "x-heddle-response-flags"
	// headerProtocol is the protocol that the calling application spoke, so that the server's sidecar can speak the
	// same although the hop between them is HTTP/2.
	headerProtocol = "x-heddle-protocol"

	// headerAccess is where the answer to a refused call names the rule that refuses it. No application can.
	headerAccess = "x-heddle-access"

	failureConnect = "connect"
	failureReset   = "reset" // and behind a space what Envoy has to say of it, where that may matter
	refusedStream  = "remote_refused_stream_reset"
)

// PortName names the listener and the route configuration of a Service port.
func PortName(service model.Key, port uint16) string {
	return "ob|" + service.Namespace + "|" + service.Name + "|" + strconv.Itoa(int(port))
}

// ClusterName names the cluster and the endpoints of a Service port, or of a subset of its pods.
func ClusterName(service model.Key, port uint16, subset model.Labels) string {
	return PortName(service, port) + "|" + subset.String()
}

// instanceName names the listener and cluster of one pod of a headless Service.
func instanceName(service model.Key, at model.Instance) string {
	return PortName(service, at.Port) + "|" + at.Address.String()
}

// ProxylessNames are the names under which a gRPC client may ask for a Service port: xds:///catalog.shop:80 and the
// same with the cluster's DNS suffix.
func ProxylessNames(service model.Key, port uint16, domain string) []string {
	short := service.Name + "." + service.Namespace
	p := ":" + strconv.Itoa(int(port))
	return []string{short + p, short + ".svc." + domain + p}
}

// proxylessCluster names the same endpoints for clients that have no sidecar.
func proxylessCluster(cluster string) string { return "grpc" + strings.TrimPrefix(cluster, "ob") }

// inboundName names what receives a port; 0 stands for all that nobody declared.
func inboundName(port uint16) string {
	if port == 0 {
		return inboundAny
	}
	return "in|" + strconv.Itoa(int(port))
}

// Inbound clusters, by what the application is spoken to with.
func inboundCluster(port uint16, protocol string) string { return inboundName(port) + "|" + protocol }

const (
	toH1   = "h1"   // HTTP/1.1
	toH2   = "h2"   // HTTP/2
	toSame = "same" // what arrives
	toTCP  = "tcp"
)

// statName makes a name safe as one segment of a statistic: Envoy splits names at dots.
func statName(s string) string { return strings.ReplaceAll(s, ".", "_") }

// low16 puts the last two bytes of a into the /16 that a sidecar without redirection binds its listeners in.
func low16(prefix netip.Prefix, a netip.Addr) netip.Addr {
	p, b := prefix.Addr().As4(), a.As16()
	return netip.AddrFrom4([4]byte{p[0], p[1], b[14], b[15]})
}
