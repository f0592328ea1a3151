package policy

// Fault makes a share of requests slow or fail, on purpose.
type Fault struct {
	// Holds requests back.
	Delay *Delay `json:"delay,omitempty"`
	// Answers requests with an error.
	Abort *Abort `json:"abort,omitempty"`
	// Only requests that carry this header, whatever its value; by default all.
	Header HeaderName `json:"header,omitempty"`
}

// Delay holds a request back before it is sent.
type Delay struct {
	// How long.
	Duration Duration `json:"duration" range:"1ms.."`
	// Share of requests.
	Percent *Percent `json:"percent,omitempty"`
}

// Abort answers a request without sending it.
type Abort struct {
	// HTTP status of the answer.
	Status *uint32 `json:"status,omitempty" range:"200..599"`
	// gRPC status of the answer, by number.
	GRPCStatus *uint32 `json:"grpcStatus,omitempty" range:"1..16"`
	// Share of requests.
	Percent *Percent `json:"percent,omitempty"`
}

func (Abort) oneOf() []string { return []string{"status", "grpcStatus"} }

func (f *Fault) validate(at Path, p *problems) {
	if !p.wrote(at.Field("delay")) && !p.wrote(at.Field("abort")) {
		p.add(at, CodeNothing, "write delay or abort", "does nothing")
	}
}
