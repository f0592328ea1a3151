package api

import (
	"encoding/json"
	"time"
)

// Where and as whom one asks.
const (
	Port        = 15016         // on the pod's loopback
	Audience    = "heddle-api"  // of tokens
	ViewAccount = "heddle-view" // ServiceAccount of those who may look
	TapAccount  = "heddle-tap"  // of those who may see requests too
)

// Paths of the API.
const (
	VersionPath  = "/v1/version"
	HealthPath   = "/v1/health"
	ProxiesPath  = "/v1/proxies"
	IdentityPath = "/v1/identity"
)

// ConfigPath is where a pod's configuration is.
func ConfigPath(namespace, pod string) string {
	return ProxiesPath + "/" + namespace + "/" + pod + "/config"
}

// Health is how a replica of the control plane stands.
type Health struct {
	Ready   bool      `json:"ready"`            // it serves: the first listing is complete
	Source  bool      `json:"source"`           // what it watches, the Kubernetes API in a cluster, answers
	Since   time.Time `json:"since,omitzero"`   // when Source last changed
	Reason  string    `json:"reason,omitempty"` // why it does not
	Proxies int       `json:"proxies"`          // that are connected here
}

// Proxy is a connected sidecar.
type Proxy struct {
	Namespace   string            `json:"namespace"`
	Pod         string            `json:"pod"`
	Labels      map[string]string `json:"labels,omitempty"` // of the pod, as they are now
	UID         string            `json:"uid,omitempty"`
	Account     string            `json:"account"`
	Node        string            `json:"node,omitempty"`
	Envoy       string            `json:"envoy,omitempty"`   // its version
	Agent       string            `json:"agent,omitempty"`   // the agent's, if it says so
	Since       time.Time         `json:"since"`             // when its present stream began
	Synced      bool              `json:"synced"`            // it has acknowledged all that it is to have
	Types       []Type            `json:"types"`             // what it is subscribed to, in the order of serving
	Certificate Certificate       `json:"certificate"`       // that the stream began with
	Replica     string            `json:"replica,omitempty"` // of the control plane, that told; set by who asks several
}

// Name is namespace/pod.
func (p Proxy) Name() string { return p.Namespace + "/" + p.Pod }

// Type is one kind of resource, of one sidecar.
type Type struct {
	Type      string `json:"type"` // cluster, endpoints, listener, route
	Resources int    `json:"resources"`
	Version   string `json:"version"` // of all of them together, acknowledged if Synced
	Synced    bool   `json:"synced"`
	Refused   []Nack `json:"refused,omitempty"`
}

// Nack is a resource that a sidecar did not take.
type Nack struct {
	Resource string `json:"resource"`
	Version  string `json:"version"`
	Reason   string `json:"reason"` // as Envoy gives it
}

// Certificate is how long a certificate is valid.
type Certificate struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// Config is all that one sidecar is served, or would be.
type Config struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	Connected bool       `json:"connected"` // else it is what would be served
	Resources []Resource `json:"resources"` // by type and name
}

// Resource is one of a sidecar's.
type Resource struct {
	Type    string          `json:"type"`
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Body    json.RawMessage `json:"body"` // protobuf JSON of Envoy's message
}
