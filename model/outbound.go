package model

import (
	"net/netip"
	"time"
)

// Outbound is how callers reach one Service: what is needed to translate its listeners, routes and clusters, and
// the API listener of proxyless gRPC clients. Another Service's change matters only where a route names it.
type Outbound struct {
	Service *Service
	// Audience is the namespace whose sidecars this view is for, because a policy there names this Service;
	// empty for the view that all others share.
	Audience  string
	Ports     []OutboundPort
	Traffic   *Traffic   // never nil; without a policy it holds the mesh's defaults
	Subsets   []Labels   // label subsets that some route sends to, sorted by String
	Instances []Instance // Headless only: one per ready endpoint and port
	// Accounts are the service accounts of the Service's pods that have a sidecar, ready or not, sorted: a caller knows
	// one before it meets it. They are what may stand in an endpoint's certificate; each endpoint says which.
	Accounts []Key
	Settings *Settings
}

// OutboundPort is a Service port as callers use it.
type OutboundPort struct {
	Port
	// Addresses that the listener of this port answers on. Normally the Service's; empty when another Service
	// claimed the same address and port first, so that one duplicate never costs anybody else a listener.
	Addresses []netip.Addr
	Hop       Hop
	// Routes are the Traffic's, with every target resolved for a call of this port: its Port is set, and
	// Missing speaks of it. Two ports of a Service may need different ports of one target, so this is per port.
	Routes []Route
}

// Hop is what a caller's sidecar speaks to the endpoints of a port.
type Hop uint8

const (
	HopPlain Hop = iota // the application's own protocol: some endpoint has no sidecar; those that do get it in mutual TLS
	HopMesh             // HTTP/2 between sidecars, for ports with HTTP
)

// Instance is one pod of a headless Service, called by its own address.
type Instance struct {
	Port    uint16 // Service port
	Address netip.AddrPort
	Meshed  bool
	Account string // service account of the pod if Meshed, in the Service's namespace
}

// Settings are the mesh-wide options that translation needs; one value shared by all views.
type Settings struct {
	DetectionTimeout time.Duration // for ports of unknown protocol, and for TLS; a client's own sidecar waits half
	RefuseUnknown    bool          // destinations that are no Service: refuse instead of pass through
	TrustDomain      string        // of the identities of all sidecars; default cluster.local
	ClusterDomain    string        // DNS suffix of Services; default cluster.local
	ConnectionAge    time.Duration // of an HTTP connection between sidecars, before it is replaced; default 1 hour
	Origins          map[Field]Origin
}

// Endpoints is where the pods behind one Service are, per Service port.
type Endpoints struct {
	Service   Key
	Ports     []PortEndpoints
	Prefer    Preference // by the Service or by policy's locality; PreferNone: every caller has the same list
	NodeLocal bool       // only endpoints on the caller's node
	Subsets   []Labels
	Origins   []Origin
}

// PortEndpoints are the endpoints of one Service port, sorted by address.
type PortEndpoints struct {
	Port      uint16
	Endpoints []Endpoint
}

// Endpoint is one address to send requests to. Terminating ones are only here when nothing ready is left.
type Endpoint struct {
	Address  netip.AddrPort
	Healthy  bool // false: a health report says so; kept in the list so that its return is seen
	Failing  bool // its last requests failed in a row: used only while too few others are left
	Draining bool // terminating but still serving, used because no ready endpoint is left
	Meshed   bool
	Node     string
	Zone     string
	Region   string
	ForZones []string // topology hints: callers in these zones use it
	ForNodes []string
	Pod      Key    // zero for hand-made slices
	Account  string // service account of the pod, in the Service's namespace; empty for hand-made slices
	Labels   Labels // of the pod, for subsets
}

// Location is where a caller runs, as far as the choice of endpoints depends on it.
type Location struct{ Node, Zone, Region string }

// Workload is what one sidecar receives, and what it must know of itself.
type Workload struct {
	Pod       *Pod
	Namespace string
	Location  Location
	Ports     []InboundPort // declared by containers, targeted by a Service or named by an Access document, by number
	// Undeclared is what holds for all other ports, as far as that can be said without a protocol: who may call.
	Undeclared InboundPort
	Checks     []HealthCheck // its own sidecar checks its application so
	Settings   *Settings
}

// InboundPort is a port of the pod that its sidecar receives on.
type InboundPort struct {
	Number      uint16
	Protocol    Protocol
	Declared    bool
	Services    []Key        // that target it; sorted
	Limits      []RouteLimit // in the order of their routes
	HTTP        HTTPVersion  // what the application is spoken to with
	IdleTimeout time.Duration
	Streak      uint32 // consecutive failures of HTTP that are reported as a failure streak; 0 for none
	// ConnectStreak is the same for TCP: consecutive connections to the application that failed.
	ConnectStreak uint32
	Ejection      time.Duration // how long callers then leave the pod alone
	Access        *Access       // who may call; never nil in a Workload that mesh has joined
	MTLS          MTLS          // whether plain text is taken
	Origins       []Origin
}

// RouteLimit is a local rate limit for what matches a route, enforced where it is received.
type RouteLimit struct {
	Service Key
	Route   string
	Matches []Match // any; empty for all
	// Unless are the matches of earlier routes that have no limit: what one of them takes never reaches this route.
	Unless []Match
	Limit  RateLimit
	Origin Origin
}
