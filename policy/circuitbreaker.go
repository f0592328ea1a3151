package policy

// CircuitBreaker bounds what one sidecar sends to a Service at once; what is over a bound is refused at once, by 503
// or by closing the connection. Only what is over maxConnectionsPerEndpoint waits. A bound that is left out does not exist. Between sidecars HTTP travels as HTTP/2, whatever the applications
// speak: many requests share a connection there, so it is maxRequests that bounds them.
type CircuitBreaker struct {
	// Connections to all endpoints. Bounds TCP; over HTTP/2 a few connections carry everything, so it rarely binds.
	MaxConnections *uint32 `json:"maxConnections,omitempty" range:"1.."`
	// Requests that wait for a connection. Over HTTP/2 requests wait only while a connection is being made or its streams are used up.
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty" range:"1.."`
	// Requests in flight to all endpoints: the bound for HTTP, on HTTP/1.1 and HTTP/2 alike.
	MaxRequests *uint32 `json:"maxRequests,omitempty" range:"1.."`
	// Retries in flight to all endpoints, a fixed number in place of the retry budget.
	MaxRetries *uint32 `json:"maxRetries,omitempty" range:"1.."`
	// Connections to each endpoint; like maxConnections it bounds TCP and rarely HTTP/2. What is over it waits for a connection to end, as many as maxPendingRequests lets.
	MaxConnectionsPerEndpoint *uint32 `json:"maxConnectionsPerEndpoint,omitempty" range:"1.."`
}
