package live

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/test/traffic"
	"github.com/heddle-mesh/heddle/test/wait"
)

// Ports for TCP beside those for HTTP.
const (
	appPortTCP     = 8082
	servicePortTCP = 8002
)

// outage is how long what is killed is away.
const outage = 20 * time.Second

// town is a world in which web sends to catalog-1 all that package traffic sends, at its full rate.
type town struct {
	*world
	catalog *pod
	load    *traffic.Load
	least   float64 // requests that must be answered in a second
	expires map[*pod]time.Time
}

// startTown gives one whose load has lasted for a while: at least so long, or where the whole is to last longer until what
// comes then makes it that.
func startTown(t *testing.T, least time.Duration, run func(*world) *plane) *town {
	t.Helper()
	w := prepare(t)
	w.apps, w.tcp = func(_ string, at netip.Addr) (stop func()) {
		traffic.Serve(t, traffic.Addresses{HTTP: hostPort(at, appPort), TCP: hostPort(at, appPortTCP)}, nil)
		return func() {} // with the test
	}, true
	w.plane = run(w)
	w.web = w.pod("web")
	m := &town{world: w, catalog: w.pod("catalog-1"), expires: map[*pod]time.Time{}}
	for _, p := range []*pod{w.web, m.catalog} {
		m.expires[p] = w.shown(p)
	}
	at := within(w.web.capture.Bind, w.service("catalog", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "tcp", Port: servicePortTCP})
	}))
	w.slice("catalog", ready(m.catalog))
	w.sliceNamed("catalog-tcp", "catalog", "tcp", ready(m.catalog))
	to := traffic.Addresses{HTTP: hostPort(at, servicePort), TCP: hostPort(at, servicePortTCP)}
	eventually(t, "catalog answers over TCP", func() bool { return answersOverTCP(to.TCP) })
	m.load = traffic.Begin(t, to, traffic.Full)
	var lasts time.Duration
	lasts, m.least = traffic.Soak(t)
	m.load.More(max(least, lasts-outage-2*time.Second))
	return m
}

func hostPort(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func answersOverTCP(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	return traffic.Exchange(c, 1) == nil
}

// shown says when the certificate expires that a pod's sidecar shows to somebody whom it refuses afterwards.
func (w *world) shown(p *pod) time.Time {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.inbound(p.address), &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"heddle-http"}, //nolint:gosec // it is looked at, not relied on
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].NotAfter
}

// renewed waits, under load, until each sidecar shows a certificate that is not the one that it began with.
func (m *town) renewed() {
	m.t.Helper()
	for p, first := range m.expires {
		wait.Until(m.t, m.Leaf+patience, p.name+" has another certificate", func() bool { return m.shown(p).After(first) })
	}
}

// finish ends the load, and wants none of it to have failed.
func (m *town) finish() {
	m.t.Helper()
	m.load.More(2 * time.Second)
	if rate := m.load.Finish(); rate < m.least {
		m.t.Errorf("%.1f requests per second were answered, want %.0f of %d at least", rate, m.least, traffic.Full)
	}
}

func TestNoRequestFailsWhileAControlPlaneThatWasKilledIsAwayForTwentySeconds(t *testing.T) {
	t.Parallel() // it mostly waits
	m := startTown(t, 2*time.Second, func(w *world) *plane {
		w.Leaf = 2 * time.Minute
		return w.fork()
	})
	m.plane.stop()
	m.load.More(outage)
	m.plane = m.fork()
	m.returned(m.web, m.catalog)
	if m.least > 0 {
		m.renewed()
	}
	m.finish()
}

// Not parallel to any other test: all use this API server. Leaves of a minute are renewed after 24 to 36 s, and those of two
// after 48 to 72 s, so that the API server is away when they should be: it is it that reviews the tokens.
func TestNoRequestFailsWhileAnAPIServerThatWasKilledIsAwayWhenLeavesAreDue(t *testing.T) {
	m := startTown(t, 10*time.Second, func(w *world) *plane {
		w.Leaf = time.Minute
		if _, least := traffic.Soak(t); least > 0 {
			w.Leaf = 2 * time.Minute
		}
		return w.serve()
	})
	api.Kill(t)
	m.load.More(outage)
	api.Resume(t)
	m.renewed()
	m.finish()
}
