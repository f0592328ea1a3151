package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type is a kind of xDS resource. The order is the one in which changes are sent: what is pointed to before what
// points to it.
type Type uint8

const (
	Cluster Type = iota
	Endpoints
	Listener
	Route
	typeCount
)

const urlPrefix = "type.googleapis.com/"

// URL is the type URL that requests and responses name.
func (t Type) URL() string {
	return [...]string{
		Cluster:   urlPrefix + "envoy.config.cluster.v3.Cluster",
		Endpoints: urlPrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment",
		Listener:  urlPrefix + "envoy.config.listener.v3.Listener",
		Route:     urlPrefix + "envoy.config.route.v3.RouteConfiguration",
	}[t]
}

// String is the short name used in logs and metrics.
func (t Type) String() string {
	return [...]string{Cluster: "cluster", Endpoints: "endpoints", Listener: "listener", Route: "route"}[t]
}

// TypeOf gives the Type with that URL; false if this package does not serve it.
func TypeOf(url string) (Type, bool) {
	for t := range typeCount {
		if t.URL() == url {
			return t, true
		}
	}
	return 0, false
}

// Ref names a resource.
type Ref struct {
	Type Type
	Name string
}

func (r Ref) String() string { return r.Type.String() + " " + r.Name }

// Resource is one xDS resource, validated, marshalled once and immutable. Every response that contains it shares
// its bytes, so that a change costs one translation and one marshalling however many proxies there are.
type Resource struct {
	Ref
	Version string // hash of the content: equal on every replica and after a restart

	onRequest bool
	uses      []string   // endpoints of a cluster, route configurations of a listener
	delta     mem.Buffer // field "resources" of a DeltaDiscoveryResponse, tag and length included
	sotw      mem.Buffer // field "resources" of a DiscoveryResponse, tag and length included; the tail of delta
}

// Option changes how a Resource is served.
type Option func(*Resource)

// OnRequest keeps the resource out of wildcard subscriptions: only who asks for it by name gets it. The API
// listeners of proxyless gRPC clients are like that, which an Envoy would refuse.
func OnRequest(r *Resource) { r.onRequest = true }

// NewResource validates m and marshals it. The name must be the one that m itself carries. Anything packed inside
// m has to be marshalled deterministically by whoever packed it, or equal content would have different versions.
func NewResource(name string, m proto.Message, opts ...Option) (*Resource, error) {
	r := &Resource{Ref: Ref{Name: name}}
	own, err := r.inspect(m)
	if err != nil {
		return nil, fmt.Errorf("xds resource %q: %w", name, err)
	}
	if own != name || name == "" || name == wildcard {
		return nil, fmt.Errorf("xds resource %q: the message names itself %q; both must be the same, and neither empty nor %q", name, own, wildcard)
	}
	if len(name) > longestName {
		return nil, tooLong(name)
	}
	if err := validate(m); err != nil {
		return nil, fmt.Errorf("validating %v: %w", r.Ref, err)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshalling %v: %w", r.Ref, err)
	}
	for _, o := range opts {
		o(r)
	}
	r.encode(value)
	return r, nil
}

// NewAssignment makes the endpoints of a cluster from value, a ClusterLoadAssignment of that name that is marshalled
// already. It is not looked into, so it must be one that [NewResource] would take.
func NewAssignment(cluster string, value []byte) (*Resource, error) {
	if cluster == "" || cluster == wildcard {
		return nil, fmt.Errorf("xds resource %q: the endpoints of a cluster need its name, and %q is none", cluster, wildcard)
	}
	if len(cluster) > longestName {
		return nil, tooLong(cluster)
	}
	r := &Resource{Ref: Ref{Type: Endpoints, Name: cluster}}
	r.encode(value)
	return r, nil
}

// tooLong refuses what no proxy could ask for, or say that it has.
func tooLong(name string) error {
	return fmt.Errorf("xds resource %.100q: its name has %d bytes; give it at most %d", name, len(name), longestName)
}

// inspect takes the type of m and the names it points to, and returns the name m carries.
func (r *Resource) inspect(m proto.Message) (name string, err error) {
	switch m := m.(type) {
	case *clusterv3.Cluster:
		r.Type, r.uses = Cluster, endpointsOf(m)
		return m.GetName(), nil
	case *endpointv3.ClusterLoadAssignment:
		r.Type = Endpoints
		return m.GetClusterName(), nil
	case *listenerv3.Listener:
		r.Type = Listener
		r.uses, err = routesOf(m)
		return m.GetName(), err
	case *routev3.RouteConfiguration:
		r.Type = Route
		return m.GetName(), nil
	default:
		return "", fmt.Errorf("messages of type %T are not served", m)
	}
}

// encode lays out the wire bytes. In both protocols "resources" is field 2, and in the Resource of the delta
// protocol the Any is field 2 as well: so the delta form, written with the Any last, ends in the SotW form.
func (r *Resource) encode(value []byte) {
	const (
		resourcesField = 2 // of DiscoveryResponse and DeltaDiscoveryResponse
		versionField   = 1 // of Resource
		anyField       = 2
		nameField      = 3
		urlField       = 1 // of Any
		valueField     = 2
	)
	sum := sha256.Sum256(value)
	r.Version = hex.EncodeToString(sum[:8])

	url := r.Type.URL()
	anySize := sizeOf(urlField, len(url)) + sizeOf(valueField, len(value))
	bodySize := sizeOf(nameField, len(r.Name)) + sizeOf(versionField, len(r.Version)) + sizeOf(anyField, anySize)

	b := make([]byte, 0, sizeOf(resourcesField, bodySize))
	b = appendHead(b, resourcesField, bodySize)
	b = append(appendHead(b, nameField, len(r.Name)), r.Name...)
	b = append(appendHead(b, versionField, len(r.Version)), r.Version...)
	tail := len(b)
	b = appendHead(b, anyField, anySize)
	b = append(appendHead(b, urlField, len(url)), url...)
	b = append(appendHead(b, valueField, len(value)), value...)
	r.delta, r.sotw = mem.SliceBuffer(b), mem.SliceBuffer(b[tail:])
}

// Message decodes the resource again, for people and tools; serving never does.
func (r *Resource) Message() (proto.Message, error) {
	_, _, n := protowire.ConsumeTag(r.sotw.ReadOnlyData())
	body, _ := protowire.ConsumeBytes(r.sotw.ReadOnlyData()[n:])
	var packed anypb.Any
	if err := proto.Unmarshal(body, &packed); err != nil {
		return nil, fmt.Errorf("decoding %v: %w", r.Ref, err)
	}
	m, err := packed.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("decoding %v: %w", r.Ref, err)
	}
	return m, nil
}

func sizeOf(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

func appendHead(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}
