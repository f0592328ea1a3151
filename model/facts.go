package model

import (
	"net/netip"
	"time"
)

// Service is a Kubernetes Service, without what the mesh has no use for.
type Service struct {
	Key          Key
	UID          string
	Created      time.Time // UTC, seconds; older wins where two Services claim one address with equal right
	Kind         ServiceKind
	Addresses    []netip.Addr  // ClusterIPs, in the order of spec.clusterIPs; empty unless Kind is ClusterIP
	ExternalName string        // only with Kind ExternalName
	Ports        []Port        // TCP ports by number; others are named in Ignored
	Ignored      []string      // ports that the mesh leaves alone, as "53/UDP", for a notice
	Selector     Labels        // nil for a Service whose slices are made by hand
	Affinity     time.Duration // sessionAffinity ClientIP: its timeout; 0 for none
	NodeLocal    bool          // internalTrafficPolicy Local: only endpoints on the caller's node
	Prefer       Preference    // trafficDistribution
	Unready      bool          // publishNotReadyAddresses: readiness does not count
	Hash         string        // of all of the above
}

// ServiceKind tells how a Service is addressed.
type ServiceKind uint8

const (
	ClusterIP    ServiceKind = iota // one or two virtual addresses; NodePort and LoadBalancer Services have these too
	Headless                        // clusterIP None: DNS gives the pods' addresses
	ExternalName                    // a DNS alias of an outside host
)

// Preference is how much an endpoint's closeness to the caller counts.
type Preference uint8

const (
	PreferNone Preference = iota
	PreferZone            // trafficDistribution PreferClose, PreferSameZone, or policy locality: prefer
	PreferNode            // trafficDistribution PreferSameNode
)

// Port is one TCP port of a Service.
type Port struct {
	Name     string // may be empty if it is the only one
	Number   uint16 // the Service's port
	Protocol Protocol
	Declared bool // by appProtocol or the port's name; false: taken from the port number or to be detected
	Greets   bool // with TCP: the server is known to speak first
	// The pods' port: Target, or TargetName if that is not empty. Slices say where calls go; this says it before them.
	Target     uint16
	TargetName string
}

// Protocol is what travels on a port, as far as the mesh treats it differently.
type Protocol uint8

const (
	Detect Protocol = iota // unknown: looked at for a short time, then TCP
	TCP                    // opaque bytes, an application's own TLS, and every server-first protocol
	HTTP                   // HTTP/1.1; HTTP/2 callers keep their HTTP/2
	HTTP2                  // HTTP/2 to the application (h2c)
	GRPC                   // HTTP2, with gRPC's status in statistics and retries
)

func (p Protocol) String() string {
	return [...]string{"detect", "tcp", "http", "http2", "grpc"}[p]
}

// IsHTTP says that routes and HTTP policy apply from the first byte.
func (p Protocol) IsHTTP() bool { return p >= HTTP }

// Slice is an EndpointSlice. Addresses of one Service may be spread over several, and stand in two at once
// while Kubernetes moves them.
type Slice struct {
	Key       Key
	Service   string // name of its Service, from kubernetes.io/service-name; same namespace
	Ports     []SlicePort
	Endpoints []SliceEndpoint
}

// SlicePort is one target port. A named targetPort that differs between pods yields several slices.
type SlicePort struct {
	Name   string // the Service port's name
	Number uint16 // the pod's port; TCP only
}

// SliceEndpoint is one address of a slice with its conditions.
type SliceEndpoint struct {
	Address     netip.Addr
	Ready       bool // conditions.ready; absent counts as true, as the API says
	Serving     bool // conditions.serving; absent counts as Ready
	Terminating bool
	Node        string
	Zone        string
	ForZones    []string // hints.forZones
	ForNodes    []string // hints.forNodes
	Pod         string   // name of the pod behind it, in the slice's namespace; empty for hand-made ones
	PodUID      string
	Hostname    string // for StatefulSets
}

// SidecarLabel is on every pod that has a Heddle sidecar, with the value "true": injection sets it, and a pod
// without it is spoken to in its application's own protocol. A label, so that it can be selected on.
const SidecarLabel = "heddle.dev/sidecar"

// PolicyLabel marks the ConfigMaps that are policies, with the value "true".
const PolicyLabel = "heddle.dev/policy"

// Pod is a Kubernetes Pod, as far as its sidecar and its callers depend on it.
type Pod struct {
	Key            Key
	UID            string
	ServiceAccount string
	Node           string
	Addresses      []netip.Addr
	Labels         Labels
	Ports          []PodPort // declared TCP containerPorts
	Skipped        []Ports   // that are reached past the sidecar: SkipInboundAnnotation
	Meshed         bool      // has a Heddle sidecar: SidecarLabel
	HostNetwork    bool
	Deleted        bool // has a deletionTimestamp: leaves every caller's endpoints at once
	Finished       bool // phase Succeeded or Failed
}

// PodPort is a declared container port. Its protocol counts where no Service says one.
type PodPort struct {
	Name     string
	Number   uint16
	Protocol Protocol
	Declared bool // by the port's name
}

// Namespace is a Kubernetes Namespace.
type Namespace struct {
	Name   string
	Labels Labels
}

// Node is a Kubernetes Node's place in the topology.
type Node struct{ Name, Zone, Region string }

// PolicyText is a policy ConfigMap: the text of its documents, not yet parsed.
type PolicyText struct {
	Key       Key
	UID       string
	Created   time.Time // the older policy wins a conflict
	Documents []PolicyDocument
}

// PolicyDocument is one key of a policy ConfigMap.
type PolicyDocument struct {
	Item string // the key in data, such as traffic.yaml
	Text string
	// Where the text stands in the file that it was read from, so that a problem points at the person's own
	// file. Zero for a ConfigMap from the API server: then positions count from the document's first line.
	File   string
	Line   int // line of the text's first line in File, from 1
	Column int // columns that the block scalar is indented by
	// Pinned says that the text stands in File quoted or folded, so that its lines are not the file's: every problem
	// is then at Line and Column, both counted from 1.
	Pinned bool
}

// HealthReport is what a sidecar found out about its own application: by active checks, or by counting failures.
type HealthReport struct {
	Pod     Key
	Port    uint16 // the pod's port
	Healthy bool
	Reason  Finding
}

// Finding is how a sidecar knew.
type Finding string

const (
	ActiveCheck   Finding = "active check"
	FailureStreak Finding = "failure streak" // so many failed requests in a row as outlier detection says
)
