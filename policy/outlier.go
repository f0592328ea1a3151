package policy

// OutlierDetection has each sidecar take endpoints that fail its own requests out of its own list for a while. It
// is passive: it looks at real traffic.
type OutlierDetection struct {
	// Ejects after this many 5xx answers in a row, failed connections included; 0 for off.
	Consecutive5xx *uint32 `json:"consecutive5xx,omitempty"`
	// Ejects after this many 502, 503 or 504 in a row; 0 for off.
	ConsecutiveGatewayErrors *uint32 `json:"consecutiveGatewayErrors,omitempty"`
	// Ejects after this many connection failures, resets or timeouts in a row, counted apart from answers; 0 for off. On TCP the pod's own sidecar counts connections that it could not hand to the application, and all callers leave the pod out; where this is off it counts them for consecutive5xx.
	ConsecutiveLocalOrigin *uint32 `json:"consecutiveLocalOrigin,omitempty"`
	// Ejects endpoints that succeed much less often than their peers; off unless written.
	SuccessRate *SuccessRate `json:"successRate,omitempty"`
	// How often endpoints are looked at for ejection by rate and for return.
	Interval *Duration `json:"interval,omitempty" range:"1ms.."`
	// Length of the first ejection; the n-th is n times as long.
	BaseEjection *Duration `json:"baseEjection,omitempty" range:"1ms.."`
	// No ejection is longer.
	MaxEjection *Duration `json:"maxEjection,omitempty" range:"1ms.."`
	// At most this share of the endpoints is out at once; whole percent.
	MaxEjectionPercent *uint32 `json:"maxEjectionPercent,omitempty" range:"0..100"`
}

// SuccessRate compares endpoints with each other over an interval.
type SuccessRate struct {
	// Endpoints with enough requests that are needed for a comparison.
	MinimumHosts *uint32 `json:"minimumHosts,omitempty" range:"1.."`
	// Requests that an endpoint needs in an interval to be looked at.
	RequestVolume *uint32 `json:"requestVolume,omitempty" range:"1.."`
	// Ejects what is this many standard deviations below the mean.
	StdevFactor *float64 `json:"stdevFactor,omitempty" range:"0.001..1000"`
}

func (o *OutlierDetection) validate(at Path, p *problems) {
	filled := WithDefaults(*o)
	if *filled.BaseEjection > *filled.MaxEjection {
		p.add(at, CodeOrder, "write a maxEjection of at least baseEjection", "baseEjection %s is above maxEjection %s", *filled.BaseEjection, *filled.MaxEjection)
	}
	counts := *filled.Consecutive5xx > 0 || *filled.ConsecutiveGatewayErrors > 0 || *filled.ConsecutiveLocalOrigin > 0
	if !counts && o.SuccessRate == nil {
		p.add(at, CodeNothing, "switch one on, or leave outlierDetection out", "every detector is off")
	}
}
