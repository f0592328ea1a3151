package outage

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/traffic"
)

// Ports of every pod, and of the Service catalog.
const (
	portHTTP = 8080
	portTCP  = 8082
)

// serviceIP is catalog's.
const serviceIP = "10.96.0.10"

// pod is a pod whose application and sidecar run.
type pod struct {
	name    string
	address netip.Addr // where its sidecar takes what comes for the pod
	capture bootstrap.Capture
	ready   func(context.Context) error
	admin   func(ctx context.Context, path string) ([]byte, error) // of its Envoy
	stop    func()                                                 // ends the sidecar, with its agent
	// requests are those that the application has answered to.
	requests atomic.Int64
}

// pod prepares a pod and runs its application.
func (g ground) pod(t *testing.T, name string, number byte) *pod {
	t.Helper()
	p := &pod{
		name: name, address: g.at(0, number),
		capture: bootstrap.Capture{Bind: loopback.Reserve(t), App: g.at(1, number)},
	}
	traffic.Serve(t, traffic.Addresses{HTTP: join(p.capture.App, portHTTP), TCP: join(p.capture.App, portTCP)}, func() { p.requests.Add(1) })
	return p
}

// wait waits until the sidecar serves.
func (p *pod) wait(t *testing.T) {
	t.Helper()
	if err := p.readyWithin(t, patience); err != nil {
		t.Fatalf("sidecar of %s: %v", p.name, err)
	}
}

func (p *pod) readyWithin(t *testing.T, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.ready(ctx)
}

// inbound is where others reach a port of the pod.
func (p *pod) inbound(port int) string { return join(p.address, port) }

// service is where the pod's application calls catalog: its sidecar binds the Service's address there.
func (p *pod) service(port int) string {
	b, s := p.capture.Bind.Addr().As4(), netip.MustParseAddr(serviceIP).As4()
	return join(netip.AddrFrom4([4]byte{b[0], b[1], s[2], s[3]}), port)
}

func join(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// load begins what the pod's application sends to catalog, all of it through the pod's sidecar.
func (p *pod) load(t *testing.T, rate int) *traffic.Load {
	t.Helper()
	return traffic.Begin(t, traffic.Addresses{HTTP: p.service(portHTTP), TCP: p.service(portTCP)}, rate)
}
