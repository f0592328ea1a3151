package translator

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-mesh/heddle/model"
)

// Assignment is a ClusterLoadAssignment as it goes over the wire.
type Assignment struct {
	Cluster string
	Value   []byte // what deterministic marshalling of the message gives
}

// Assignments is [Endpoints], marshalled. Endpoints are what changes most in a mesh, and making messages of them to
// marshal and drop was most of the cost of such a change. So this writes the bytes; a test holds it to be the same ones.
func Assignments(e *model.Endpoints, at model.Location) []Assignment {
	var out []Assignment
	for _, p := range e.Ports {
		w := assignmentWriter{service: e.Service, heads: map[headOf][]byte{}}
		out = append(out, w.assignment(e, p, nil, at))
		for _, subset := range e.Subsets {
			out = append(out, w.assignment(e, p, subset, at))
		}
	}
	return out
}

// Numbers of fields, see envoy/config/endpoint/v3, envoy/config/core/v3 and google/protobuf.
const (
	assignmentCluster    protowire.Number = 1
	assignmentLocalities protowire.Number = 2
	localityPlace        protowire.Number = 1
	localityEndpoints    protowire.Number = 2
	localityWeight       protowire.Number = 3
	localityPriority     protowire.Number = 5
	localityMetadata     protowire.Number = 9
	placeRegion          protowire.Number = 1
	placeZone            protowire.Number = 2
	lbEndpointEndpoint   protowire.Number = 1
	lbEndpointHealth     protowire.Number = 2
	lbEndpointMetadata   protowire.Number = 3
	endpointAddress      protowire.Number = 1
	addressSocket        protowire.Number = 1
	socketAddressText    protowire.Number = 2
	socketAddressPort    protowire.Number = 3
	numberValue          protowire.Number = 1 // of UInt32Value
)

// enoughForAddress is what an endpoint with an IPv6 address takes, but for what it has in common with others.
const enoughForAddress = 72

// headOf is what endpoints have in common that differ in their addresses only.
type headOf struct {
	way     way
	healthy bool
}

type assignmentWriter struct {
	service model.Key
	heads   map[headOf][]byte
}

func (w *assignmentWriter) assignment(e *model.Endpoints, p model.PortEndpoints, subset model.Labels, at model.Location) Assignment {
	a := Assignment{Cluster: ClusterName(e.Service, p.Port, subset)}
	groups := grouped(e, p, subset, at)
	origins := appendProvenance(make([]byte, 0, 256), endpointOrigins(e, p))
	bodies, size := make([][]byte, len(groups)), protowire.SizeBytes(len(a.Cluster))+1
	for i := range groups {
		bodies[i] = w.locality(&groups[i], origins)
		size += protowire.SizeBytes(len(bodies[i])) + 1
	}
	a.Value = appendText(make([]byte, 0, size), assignmentCluster, a.Cluster)
	for _, b := range bodies {
		a.Value = appendField(a.Value, assignmentLocalities, b)
	}
	return a
}

// locality writes the fields in the order of their numbers.
func (w *assignmentWriter) locality(g *group, origins []byte) []byte {
	size := len(g.region) + len(g.zone) + len(origins) + 32
	for _, ep := range g.members {
		size += len(w.head(ep)) + enoughForAddress
	}
	var place, number [64]byte
	b := appendField(make([]byte, 0, size), localityPlace, appendText(appendText(place[:0], placeRegion, g.region), placeZone, g.zone))
	var one []byte
	for _, ep := range g.members {
		one = appendAddress(append(one[:0], w.head(ep)...), ep) // a oneof comes last, whatever its number
		b = appendField(b, localityEndpoints, one)
	}
	b = appendField(b, localityWeight, appendNumber(number[:0], numberValue, uint64(len(g.members))))
	b = appendNumber(b, localityPriority, uint64(g.priority))
	if len(origins) > 0 {
		b = appendField(b, localityMetadata, origins)
	}
	return b
}

func (w *assignmentWriter) head(ep *model.Endpoint) []byte {
	of := headOf{way{ep.Meshed, ep.Account}, ep.Healthy}
	b, ok := w.heads[of]
	if !ok {
		if !ep.Healthy {
			b = appendNumber(b, lbEndpointHealth, uint64(corev3.HealthStatus_UNHEALTHY))
		}
		b = appendField(b, lbEndpointMetadata, appendWay(nil, socketName(w.service, ep)))
		w.heads[of] = b
	}
	return b
}

func appendAddress(b []byte, ep *model.Endpoint) []byte {
	var text, sock, address, endpoint [enoughForAddress]byte
	s := appendField(sock[:0], socketAddressText, ep.Address.Addr().AppendTo(text[:0]))
	s = protowire.AppendVarint(protowire.AppendTag(s, socketAddressPort, protowire.VarintType), uint64(ep.Address.Port()))
	return appendField(b, lbEndpointEndpoint, appendField(endpoint[:0], endpointAddress, appendField(address[:0], addressSocket, s)))
}
