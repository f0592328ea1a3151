package policy

// Mesh holds what counts for the whole mesh. It is good only in the control plane's own namespace.
type Mesh struct {
	// What counts where no other document sets it.
	Defaults *Defaults `json:"defaults,omitempty"`
	// Who may call a workload that no Access document speaks of.
	Access DefaultAccess `json:"access,omitempty"`
	// What happens to calls of addresses that are no Service: pass lets them through, refuse does not.
	UnknownDestinations UnknownDestinations `json:"unknownDestinations,omitempty"`
	// Longest wait for a client's first bytes on a port of unknown protocol, before it is taken for TCP. A TCP port that takes plain text waits as long for callers without a sidecar, known protocol or not, to see whether they speak mutual TLS; callers with a sidecar do not wait there, and under mtls: strict nobody does.
	DetectionTimeout *Duration `json:"detectionTimeout,omitempty" range:"2ms..10s"`
}

// Defaults has one part for each of the other kinds.
type Defaults struct {
	// For every Service.
	Traffic *TrafficSettings `json:"traffic,omitempty"`
	// For every workload.
	Access *AccessDefaults `json:"access,omitempty"`
	// For every sidecar.
	Scope *ScopeSettings `json:"scope,omitempty"`
	// For every sidecar.
	Telemetry *TelemetrySettings `json:"telemetry,omitempty"`
}

// AccessDefaults are the parts of an Access document that the mesh can have defaults for.
type AccessDefaults struct {
	// Whether callers must prove who they are.
	MTLS MTLSMode `json:"mtls,omitempty"`
	// Whether documents refuse or only tell.
	Mode AccessMode `json:"mode,omitempty"`
}

// DefaultAccess is who may call where no Access document speaks.
type DefaultAccess string

// The values of a Mesh document's access.
const (
	AccessOpen          DefaultAccess = "open"
	AccessAuthenticated DefaultAccess = "authenticated"
	AccessSameNamespace DefaultAccess = "same-namespace"
	AccessDeny          DefaultAccess = "deny"
)

func (DefaultAccess) words() []string {
	return []string{"open", "authenticated", "same-namespace", "deny"}
}

// UnknownDestinations is what happens to calls of addresses that are no Service.
type UnknownDestinations string

// The values of unknownDestinations.
const (
	UnknownPass   UnknownDestinations = "pass"
	UnknownRefuse UnknownDestinations = "refuse"
)

func (UnknownDestinations) words() []string { return []string{"pass", "refuse"} }

func (*Mesh) validate(at Path, p *problems) {
	if !p.src.System {
		p.add(at, CodeNamespace, "put it where Heddle itself runs", "a Mesh document has effect only in the control plane's namespace")
	}
}
