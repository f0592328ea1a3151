package policy

// Scope bounds what sidecars see, so that each needs to know only a part of a large mesh.
type Scope struct {
	// Labels of the pods that it is for; by default every pod of the namespace.
	Workload Labels `json:"workload,omitempty"`
	ScopeSettings
}

// ScopeSettings are the parts of a Scope document that the mesh can have defaults for.
type ScopeSettings struct {
	// Services that the sidecars know: "name" or "*" in the own namespace, "namespace/name", "namespace/*" or "*/*"; by default all.
	Egress []ServicePattern `json:"egress,omitempty"`
	// Hosts outside the mesh that may be called even where unknown destinations are refused, such as api.example.com or *.example.com.
	Hosts []HostPattern `json:"hosts,omitempty"`
	// What happens to calls of addresses that are no Service; by default as the mesh says.
	UnknownDestinations UnknownDestinations `json:"unknownDestinations,omitempty"`
	// Container ports that the sidecar receives on; by default all that are declared or targeted by a Service.
	Ingress []Port `json:"ingress,omitempty"`
}
