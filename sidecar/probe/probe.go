package probe

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Probe is what a probe asks, in the form that the Kubernetes API gives it (core/v1 Probe), with numbers for ports. One of
// the three handlers is set. A hook is an HTTPGet without a timeout.
type Probe struct {
	HTTPGet        *HTTPGet   `json:"httpGet"`
	TCPSocket      *TCPSocket `json:"tcpSocket"`
	GRPC           *GRPC      `json:"grpc"`
	TimeoutSeconds int        `json:"timeoutSeconds"` // 0: 1
}

// HTTPGet succeeds with an answer from 200 to 399; as a hook, with any.
type HTTPGet struct {
	Path        string   `json:"path"` // with the query
	Port        uint16   `json:"port"`
	Scheme      string   `json:"scheme"` // HTTP or HTTPS, whose certificate is not looked at; empty: HTTP
	HTTPHeaders []Header `json:"httpHeaders"`
}

// Header is one of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPSocket succeeds when a connection opens.
type TCPSocket struct {
	Port uint16 `json:"port"`
}

// GRPC succeeds when the health service (grpc.health.v1) says SERVING.
type GRPC struct {
	Port    uint16 `json:"port"`
	Service string `json:"service"`
}

// Hooks of a container, beside the kinds of probes.
const (
	PostStart = "postStart"
	PreStop   = "preStop"
)

// isHook tells hooks from probes by what they are called.
func isHook(name string) bool {
	_, kind, _ := strings.Cut(name, "/")
	return kind == PostStart || kind == PreStop
}

// Parse reads the probes and hooks of a pod, a JSON object of CONTAINER/KIND to probe. No text is no probe.
func Parse(text string) (map[string]Probe, error) {
	if text == "" {
		return nil, nil
	}
	var probes map[string]Probe
	if err := json.Unmarshal([]byte(text), &probes); err != nil {
		return nil, fmt.Errorf("read the pod's probes: %w", err)
	}
	for name, p := range probes {
		if err := p.check(name); err != nil {
			return nil, fmt.Errorf("probe %q: %w", name, err)
		}
	}
	return probes, nil
}

func (p Probe) check(name string) error {
	container, kind, _ := strings.Cut(name, "/")
	if container == "" || !slices.Contains([]string{"liveness", "readiness", "startup", PostStart, PreStop}, kind) {
		return fmt.Errorf("want CONTAINER/ and liveness, readiness, startup, %s or %s as its name", PostStart, PreStop)
	}
	if isHook(name) && (p.TCPSocket != nil || p.GRPC != nil) {
		return fmt.Errorf("want httpGet: Kubernetes has no other hook that goes over the network")
	}
	var ports []uint16
	if p.HTTPGet != nil {
		if s := p.HTTPGet.Scheme; s != "" && s != "HTTP" && s != "HTTPS" {
			return fmt.Errorf("scheme %q: want HTTP or HTTPS", s)
		}
		ports = append(ports, p.HTTPGet.Port)
	}
	if p.TCPSocket != nil {
		ports = append(ports, p.TCPSocket.Port)
	}
	if p.GRPC != nil {
		ports = append(ports, p.GRPC.Port)
	}
	if len(ports) != 1 || ports[0] == 0 {
		return fmt.Errorf("want one of httpGet, tcpSocket and grpc, and its port as a number")
	}
	return nil
}

func (p Probe) timeout() time.Duration { return time.Duration(max(p.TimeoutSeconds, 1)) * time.Second }

// Sources are the local addresses of the connections that probes make, by family; those that are not valid are the
// system's choice. Redirection lets what comes from them through to the application.
type Sources struct{ IPv4, IPv6 netip.Addr }

func (s Sources) to(a netip.Addr) netip.Addr {
	if a.Is4() {
		return s.IPv4
	}
	return s.IPv6
}
