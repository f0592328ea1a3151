package policy

// Access says who may call. It speaks of the workloads with certain labels, of a Service, or with neither of every
// workload in the namespace.
type Access struct {
	// Labels of the pods that it protects.
	Workload map[string]string `json:"workload,omitempty"`
	// Name of the Service that it protects, in the document's own namespace.
	Service string `json:"service,omitempty"`
	// Whether callers must prove who they are: strict refuses plain text, permissive takes both.
	MTLS MTLSMode `json:"mtls,omitempty"`
	// Ports with an mtls mode of their own: container ports with workload, Service ports with service.
	Ports map[Port]MTLSMode `json:"ports,omitempty"`
	// enforce refuses; audit counts and logs what it would have refused.
	Mode AccessMode `json:"mode,omitempty"`
	// What happens to requests that a rule matches. With allow, all others are refused; deny comes before allow.
	Action AccessAction `json:"action,omitempty"`
	// Rules, of which any may match; without the key only mtls is set, and an empty list matches nothing.
	Rules *[]Rule `json:"rules,omitempty"`
}

func (Access) atMostOne() []string { return []string{"workload", "service"} }

// Rule is a conjunction: all that is written must hold.
type Rule struct {
	// Any of these callers: "namespace/serviceAccount", "namespace/*", or a mapping; they must have proved it by mTLS.
	From []Caller `json:"from,omitempty"`
	// Any of these methods.
	Methods []Method `json:"methods,omitempty"`
	// Any of these paths: exact, or with * as the end for every path that begins so.
	Paths []PathPattern `json:"paths,omitempty"`
	// Any of these ports: container ports with workload, Service ports with service.
	Ports []Port `json:"ports,omitempty"`
}

// MTLSMode says whether plain text is taken.
type MTLSMode string

// The values of mtls.
const (
	MTLSStrict     MTLSMode = "strict"
	MTLSPermissive MTLSMode = "permissive"
)

func (MTLSMode) words() []string { return []string{"strict", "permissive"} }

// AccessMode says whether a document refuses or only tells.
type AccessMode string

// The values of mode.
const (
	ModeEnforce AccessMode = "enforce"
	ModeAudit   AccessMode = "audit"
)

func (AccessMode) words() []string { return []string{"enforce", "audit"} }

// AccessAction is what happens to requests that a rule matches.
type AccessAction string

// The values of action.
const (
	ActionAllow AccessAction = "allow"
	ActionDeny  AccessAction = "deny"
)

func (AccessAction) words() []string { return []string{"allow", "deny"} }
