package policy

// Traffic says how callers reach a Service. In the Service's own namespace it holds for all callers; in another
// one, where the Service is named as namespace/name, for the sidecars of that namespace.
type Traffic struct {
	// The Service: a name in the document's own namespace, or namespace/name.
	Service ServiceRef `json:"service"`
	TrafficSettings
	// Requests are sent by the first route that matches, in the order written; what no route matches goes to the Service itself.
	Routes []Route `json:"routes,omitempty"`
}

// TrafficSettings are the parts of a Traffic document that the mesh can have defaults for. Each of them is taken
// as a whole: a retries block replaces a default retries block and is not merged with it.
type TrafficSettings struct {
	// Time for a whole request, retries included, until its response is complete; 0s for none.
	Timeout *Duration `json:"timeout,omitempty" range:"0s.."`
	// A stream or TCP connection on which no byte moved for this long is ended; 0s for never.
	IdleTimeout *Duration `json:"idleTimeout,omitempty" range:"0s.."`
	// Repeats failed requests. Without it nothing is retried.
	Retries *Retries `json:"retries,omitempty"`
	// Bounds what one sidecar sends to the Service at once. Without it there is no bound.
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// Takes failing endpoints out of use for a while, by what each caller sees. Without it none is.
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// Has each pod's own sidecar check its application; every caller avoids pods that fail.
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// Chooses among healthy endpoints.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// How connections to endpoints are made and kept.
	Connection *Connection `json:"connection,omitempty"`
}
