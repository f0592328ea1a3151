package policy

// Retries asks the caller's sidecar to repeat a failed request. Without it nothing is retried:
// a silent retry of a payment is paid twice.
type Retries struct {
	// Further tries after the first; 0 in a route switches the Service's retries off.
	Attempts uint32 `json:"attempts" range:"0..10"`
	// Time for each try; by default what is left of the request's timeout.
	PerTryTimeout *Duration `json:"perTryTimeout,omitempty" range:"1ms.."`
	// What counts as failure: conditions and HTTP status codes.
	On []Condition `json:"on,omitempty"`
	// Methods that are retried, by default the idempotent ones of RFC 9110, 9.2.2; "*" for all. gRPC calls are POST.
	Methods []Method `json:"methods,omitempty"`
	// The pause before each further try.
	BackOff *BackOff `json:"backOff,omitempty"`
	// Holds all retries to the Service to a share of its active requests; not in a route.
	Budget *RetryBudget `json:"budget,omitempty"`
}

// BackOff is the pause before a further try: random, and at most base x 2^n, so that callers do not return in step.
type BackOff struct {
	// Upper end of the first pause.
	Base *Duration `json:"base,omitempty" range:"1ms.."`
	// Upper end of all pauses.
	Max *Duration `json:"max,omitempty" range:"1ms.."`
}

// RetryBudget is counted by each sidecar for itself, over all routes of the Service.
type RetryBudget struct {
	// Share of active requests that may be retries.
	Percent *Percent `json:"percent,omitempty"`
	// This many retries at once are always allowed, or low traffic would have none.
	MinConcurrency *uint32 `json:"minConcurrency,omitempty"`
}

// The conditions of retries, beside HTTP status codes.
const (
	OnConnectFailure    Condition = "connect-failure"
	OnRefusedStream     Condition = "refused-stream"
	OnReset             Condition = "reset"
	On5xx               Condition = "5xx"
	OnGatewayError      Condition = "gateway-error"
	OnRetriable4xx      Condition = "retriable-4xx"
	OnCancelled         Condition = "cancelled"
	OnDeadlineExceeded  Condition = "deadline-exceeded"
	OnInternal          Condition = "internal"
	OnResourceExhausted Condition = "resource-exhausted"
	OnUnavailable       Condition = "unavailable"
)
