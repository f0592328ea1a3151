package policy

import (
	"time"
)

// Connection says how connections to endpoints are made and kept.
type Connection struct {
	// Time for a TCP connection to an endpoint to be made. A sidecar gives its own application 10 s, whatever is written here.
	ConnectTimeout *Duration `json:"connectTimeout,omitempty" range:"1ms.."`
	// TCP keepalive, in whole seconds; off unless written.
	Keepalive *Keepalive `json:"keepalive,omitempty"`
	// A connection is closed after this many requests; no bound unless written.
	MaxRequestsPerConnection *uint32 `json:"maxRequestsPerConnection,omitempty" range:"1.."`
	// HTTP version that the application is spoken to with: auto, 1 or 2. auto: what the port declares, or else what the caller spoke.
	HTTP HTTPVersion `json:"http,omitempty"`
}

// Keepalive finds dead connections. What is left out is as the system has it.
type Keepalive struct {
	// Unanswered probes after which a connection is dead.
	Probes *uint32 `json:"probes,omitempty" range:"1..127"`
	// Idle time before the first probe.
	Time *Duration `json:"time,omitempty" range:"1s..32767s"`
	// Time between probes.
	Interval *Duration `json:"interval,omitempty" range:"1s..32767s"`
}

// HTTPVersion is a version of HTTP.
type HTTPVersion string

// The values of http.
const (
	HTTPAuto HTTPVersion = "auto"
	HTTP1    HTTPVersion = "1"
	HTTP2    HTTPVersion = "2"
)

func (HTTPVersion) words() []string { return []string{"auto", "1", "2"} }

func (k *Keepalive) validate(at Path, p *problems) {
	checkSeconds(k.Time, at.Field("time"), p)
	checkSeconds(k.Interval, at.Field("interval"), p)
}

// checkSeconds holds a duration to whole seconds where the system or the protocol counts in them.
func checkSeconds(d *Duration, at Path, p *problems) {
	if d != nil && time.Duration(*d)%time.Second != 0 {
		p.add(at, CodeDuration, "write whole seconds", "%s is not counted here in parts of a second", *d)
	}
}
