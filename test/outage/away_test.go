package outage

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/test/traffic"
)

// TestWhereNoLeafCanBeRenewedConnectionsEndAndNothingFallsBackToPlainText goes by the ports of catalog, which take plain
// text as well: a sidecar that fell back to it would be answered.
func TestWhereNoLeafCanBeRenewedConnectionsEndAndNothingFallsBackToPlainText(t *testing.T) {
	t.Parallel()
	const leaf = 12 * time.Second
	m := start(t, options{leaf: leaf})
	url := "http://" + m.web.service(portHTTP) + "/"
	raw, err := net.Dial("tcp", m.web.service(portTCP))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := traffic.Exchange(raw, 1); err != nil {
		t.Fatal(err)
	}
	before := m.shop.requests.Load()

	m.stop()
	expired := m.shop.shown(t)[0].NotAfter
	if other := m.web.shown(t)[0].NotAfter; other.Before(expired) {
		expired = other
	}
	c := traffic.Client(traffic.HTTP2)
	defer c.CloseIdleConnections()
	answered := 0
	for time.Now().Before(expired.Add(-time.Second)) {
		if err := traffic.Get(c, url); err != nil {
			t.Fatalf("%v before the first leaf expires: %v", time.Until(expired), err)
		}
		answered++
	}
	// None can begin once a leaf has expired. What is in use then lasts as long as an HTTP connection may: its age, a tenth
	// more, and 5 s of draining. Two seconds are for the machine: what is seen is seen later than it was.
	last := expired.Add(controlplane.ConnectionAge(leaf)*11/10 + 5*time.Second + 2*time.Second)
	eventually(t, "requests fail", func() bool {
		err := traffic.Get(c, url)
		if err == nil {
			answered++
		}
		return err != nil
	})
	t.Logf("%d requests answered without a control plane; they fail since %v after the first leaf expired",
		answered, time.Since(expired).Round(time.Millisecond))
	if time.Now().After(last) {
		t.Errorf("requests were answered until now, and the last connection had to end at %v", last)
	}
	eventually(t, "the last HTTP connection has ended", func() bool { return m.upstreams(t, m.web) == 0 })
	if time.Now().After(last) {
		t.Errorf("the last HTTP connection ended too late, after %v", last)
	}
	for n := range uint64(50) {
		if err := traffic.Get(traffic.Client(traffic.HTTP1), url); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("a new connection: %v", err)
		}
		if err := traffic.Exchange(raw, n); err != nil {
			t.Fatalf("the connection for TCP that was there before: %v", err)
		}
	}
	if c, err := net.Dial("tcp", m.web.service(portTCP)); err == nil {
		if err := traffic.Exchange(c, 1); err == nil {
			t.Error("a new connection for TCP carries bytes")
		}
		_ = c.Close()
	}
	if got := m.shop.requests.Load() - before; got != int64(answered) {
		t.Errorf("the application saw %d requests, and %d were answered", got, answered)
	}
	m.serve()
	eventually(t, "all is well again", func() bool { return traffic.Get(c, url) == nil })
}

// upstreams counts the HTTP connections from a pod's sidecar to catalog's.
func (m *town) upstreams(t *testing.T, p *pod) int {
	t.Helper()
	text, err := p.admin(t.Context(), "/stats?filter=^cluster\\..*"+strconv.Itoa(portHTTP)+".*\\.upstream_cx_active$")
	if err != nil {
		t.Fatal(err)
	}
	sum, lines := 0, 0
	for line := range strings.Lines(string(text)) {
		_, value, _ := strings.Cut(line, ": ")
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			t.Fatalf("statistics of %s: %v", p.name, err)
		}
		sum, lines = sum+n, lines+1
	}
	if lines == 0 {
		t.Fatalf("%s has no statistics of connections", p.name)
	}
	return sum
}
