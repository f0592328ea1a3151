package policy

import "slices"

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
	// Holds all retries to the Service to a share of its active requests; not in a route. Without it and without maxRetries it is 20 percent and 3.
	Budget *RetryBudget `json:"budget,omitempty"`
}

func (r *Retries) validate(at Path, p *problems) {
	if i := slices.Index(r.Methods, "*"); i >= 0 && len(r.Methods) > 1 {
		p.add(at.Field("methods").Index(i), CodeExclusive, `write ["*"] for all methods`, `"*" excludes other methods`)
	}
	checkOnce(r.Methods, at.Field("methods"), p)
	checkOnce(r.On, at.Field("on"), p)
	if i := slices.IndexFunc(r.On, Condition.isGRPC); i >= 0 && !slices.Contains(r.Methods, "POST") && !slices.Contains(r.Methods, "*") {
		p.add(at.Field("on").Index(i), CodeRetryGRPC, "write methods: [POST], if the calls may be repeated",
			"%s is a gRPC status, and gRPC calls are POST, which is not retried here", r.On[i])
	}
	const many = 5 // three hops of it make 216 tries
	if r.Attempts >= many {
		n := r.Attempts + 1
		p.add(at.Field("attempts"), CodeRetryChain, "retry at one hop only, or fewer times",
			"where callers of callers retry too, tries multiply: three such hops make %d of one request", n*n*n)
	}
}

// BackOff is the pause before a further try: random, and at most base x 2^n, so that callers do not return in step.
type BackOff struct {
	// Upper end of the first pause.
	Base *Duration `json:"base,omitempty" range:"1ms.."`
	// Upper end of all pauses.
	Max *Duration `json:"max,omitempty" range:"1ms.."`
}

func (b *BackOff) validate(at Path, p *problems) {
	filled := WithDefaults(*b)
	if *filled.Base > *filled.Max {
		p.add(at, CodeOrder, "write a max of at least the base", "base %s is above max %s", *filled.Base, *filled.Max)
	}
}

// RetryBudget is counted by each sidecar for itself, over all routes of the Service.
type RetryBudget struct {
	// Share of active requests that may be retries.
	Percent *Percent `json:"percent,omitempty"`
	// This many retries at once are always allowed, or low traffic would have none.
	MinConcurrency *uint32 `json:"minConcurrency,omitempty"`
}

// Condition is a failure that can be retried: a word of the language, or an HTTP status from 400 to 599.
type Condition string

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

func (Condition) words() []string {
	return []string{"connect-failure", "refused-stream", "reset", "5xx", "gateway-error", "retriable-4xx",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
}

func (c Condition) isGRPC() bool {
	switch c {
	case OnCancelled, OnDeadlineExceeded, OnInternal, OnResourceExhausted, OnUnavailable:
		return true
	}
	return false
}

// Status gives the HTTP status that the condition is, if it is one.
func (c Condition) Status() (uint32, bool) {
	n, flaw := status(string(c), 400)
	return n, flaw == nil
}

func (Condition) form() form { return form{name: "condition or status", number: true} }

func (c *Condition) setText(s string) *flaw {
	if isNumber(s) {
		if _, flaw := status(s, 400); flaw != nil {
			return flaw
		}
	} else if words := c.words(); !slices.Contains(words, s) {
		return flawf(CodeWord, meant(s, append(words, "an HTTP status")), "%q is unknown", clip(s))
	}
	*c = Condition(s)
	return nil
}
