package policy

// Kind names a kind of document.
type Kind string

// The kinds of the policy language.
const (
	KindTraffic   Kind = "Traffic"
	KindAccess    Kind = "Access"
	KindScope     Kind = "Scope"
	KindTelemetry Kind = "Telemetry"
	KindMesh      Kind = "Mesh"
)

// Document is one valid policy document. The pointer that Kind names is set, the others are nil.
type Document struct {
	Kind Kind
	// Hash is of the document's content: comments, order of keys and way of quoting do not count.
	Hash string
	// Fields has such a hash for every top-level key that was written, kind excluded.
	Fields    map[string]string
	Traffic   *Traffic
	Access    *Access
	Scope     *Scope
	Telemetry *Telemetry
	Mesh      *Mesh
}
