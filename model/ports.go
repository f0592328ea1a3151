package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SkipInboundAnnotation is on pods with ports that redirection leaves alone, in the form that [ParsePorts] reads. What
// arrives there meets no sidecar, so callers use the application's own protocol.
const SkipInboundAnnotation = "heddle.dev/skip-inbound-ports"

// Ports are those from First to Last, both included.
type Ports struct{ First, Last uint16 }

// OnePort is a range of one.
func OnePort(n uint16) Ports { return Ports{n, n} }

// ParsePorts reads ports, and ranges as 8000-8010, with commas between them. Nothing is no port.
func ParsePorts(text string) ([]Ports, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var out []Ports
	for field := range strings.SplitSeq(text, ",") {
		field = strings.TrimSpace(field)
		first, last, isRange := strings.Cut(field, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a == 0 || a > b {
			return nil, fmt.Errorf("%q: want ports from 1 to 65535, or ranges of them, with commas between them, as 3306,8000-8010", field)
		}
		out = append(out, Ports{uint16(a), uint16(b)})
	}
	return out, nil
}

// Skips says that redirection leaves a port of the pod alone.
func (p *Pod) Skips(port uint16) bool {
	return slices.ContainsFunc(p.Skipped, func(r Ports) bool { return r.First <= port && port <= r.Last })
}
