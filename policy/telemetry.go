package policy

// Telemetry says what sidecars tell of the requests they see.
type Telemetry struct {
	// Labels of the pods that it is for; by default every pod of the namespace.
	Workload Labels `json:"workload,omitempty"`
	TelemetrySettings
}

// TelemetrySettings are the parts of a Telemetry document that the mesh can have defaults for.
type TelemetrySettings struct {
	// Access logs, as JSON lines on the sidecar's standard output.
	AccessLog *AccessLog `json:"accessLog,omitempty"`
	// Traces, sent by OTLP with W3C trace context. Without it sidecars only pass the context on.
	Tracing *Tracing `json:"tracing,omitempty"`
	// Bounds of live taps.
	Tap *Tap `json:"tap,omitempty"`
}

// AccessLog chooses what is logged.
type AccessLog struct {
	// Which requests: off, failures (5xx, gRPC failures and requests without an answer) or all.
	Requests LogRequests `json:"requests,omitempty"`
	// Share of those requests.
	Percent *Percent `json:"percent,omitempty"`
}

// Tracing sends spans to a collector.
type Tracing struct {
	// OTLP collector over gRPC, as host:port.
	Endpoint HostPort `json:"endpoint"`
	// Share of new traces that is recorded; a caller's decision is followed.
	Sampling *Percent `json:"sampling,omitempty"`
}

// Tap bounds what people who look at live requests may cost.
type Tap struct {
	// Requests per second that a sidecar tells of at most; 0 forbids taps.
	MaxPerSecond *uint32 `json:"maxPerSecond,omitempty" range:"0..10000"`
	// A tap ends by itself after this time.
	MaxDuration *Duration `json:"maxDuration,omitempty" range:"1s..24h"`
}

// LogRequests chooses requests for the access log.
type LogRequests string

// The values of accessLog.requests.
const (
	LogOff      LogRequests = "off"
	LogFailures LogRequests = "failures"
	LogAll      LogRequests = "all"
)

func (LogRequests) words() []string { return []string{"off", "failures", "all"} }
