package policy

import (
	"fmt"
	"strings"
)

// maxQuery is how long the query of a health check may be.
const maxQuery = 4096

// HealthCheck is an active check of an application by its own sidecar. The result reaches the control plane and
// from there every caller, so there are as many checks as pods and not pods times callers. The control plane's metric
// heddle_unhealthy names the pods that were found not to work.
type HealthCheck struct {
	// HTTP: this path is asked for.
	Path string `json:"path,omitempty"`
	// HTTP: the Host header; by default the Service's name.
	Host string `json:"host,omitempty"`
	// HTTP: statuses that count as healthy, each a code or a range such as 200-299; by default 200.
	Statuses []StatusRange `json:"statuses,omitempty"`
	// gRPC: the standard health service grpc.health.v1 is asked.
	GRPC *GRPCCheck `json:"grpc,omitempty"`
	// TCP: a connection is opened; written as tcp: {}.
	TCP *TCPCheck `json:"tcp,omitempty"`
	// Service port whose target is checked; by default the Service's first port.
	Port *uint16 `json:"port,omitempty" range:"1..65535"`
	// Time between checks.
	Interval *Duration `json:"interval,omitempty" range:"1ms.."`
	// Time for one check.
	Timeout *Duration `json:"timeout,omitempty" range:"1ms.."`
	// Failures in a row after which a pod counts as unhealthy.
	UnhealthyThreshold *uint32 `json:"unhealthyThreshold,omitempty" range:"1..100"`
	// Successes in a row after which it counts as healthy again.
	HealthyThreshold *uint32 `json:"healthyThreshold,omitempty" range:"1..100"`
}

// GRPCCheck asks grpc.health.v1.Health/Check.
type GRPCCheck struct {
	// Service name in the question; by default the server as a whole.
	Service string `json:"service,omitempty"`
}

// TCPCheck has no settings.
type TCPCheck struct{}

func (HealthCheck) oneOf() []string { return []string{"path", "grpc", "tcp"} }

func (h *HealthCheck) validate(at Path, p *problems) {
	path, query, _ := strings.Cut(h.Path, "?")
	checkPath(path, at.Field("path"), p)
	if len(query) > maxQuery || strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		p.add(at.Field("path"), CodePath, fmt.Sprintf("percent-encode it, and write up to %d characters", maxQuery), "%q has a query that no request has", clip(h.Path))
	}
	checkHost(h.Host, at.Field("host"), p)
	if !p.wrote(at.Field("path")) {
		for _, option := range []string{"host", "statuses"} {
			if p.wrote(at.Field(option)) {
				p.addKey(at.Field(option), CodeCheckOption, "leave it out, or check a path", "is for HTTP checks only")
			}
		}
	}
	if filled := WithDefaults(*h); *filled.Timeout > *filled.Interval {
		p.add(at, CodeOrder, "write an interval of at least the timeout", "timeout %s is above interval %s", *filled.Timeout, *filled.Interval)
	}
}
