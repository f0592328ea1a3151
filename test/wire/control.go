package wire

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/xds"
)

// control is the control plane of a mesh, in this process. It fails the test if a sidecar refuses anything.
type control struct {
	mesh    *local.Mesh
	metrics *prometheus.Registry

	mu      sync.Mutex
	refused []string
	invalid bool
}

func startControl(t testing.TB, scan *secrets.Scan, folder, dir string) *control {
	t.Helper()
	c := &control{metrics: prometheus.NewRegistry()}
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, what := range c.refused {
			t.Error("refused by", what)
		}
	})
	log := scan.Log("the control plane")
	m, err := local.New(local.Options{
		Dir: dir,
		Plane: controlplane.Options{
			Source: kube.NewFolder(kube.FolderOptions{Dir: folder, Log: log}), Drain: time.Millisecond, Observer: c,
			Registry: c.metrics, Log: log,
		},
		Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.mesh = m
	run(t, "control plane", m.Run)
	return c
}

// HasProblem says whether the control plane found an error in a policy the last time that one changed.
func (m *Mesh) HasProblem() bool {
	m.control.mu.Lock()
	defer m.control.mu.Unlock()
	return m.control.invalid
}

// Applied implements controlplane.Observer.
func (c *control) Applied(ch mesh.Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ch.Policies {
		c.invalid = !p.Accepted
	}
}

// Observe implements controlplane.Observer.
func (c *control) Observe(e xds.Event) {
	if e.Kind == xds.Refused {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = append(c.refused, e.Proxy+": "+e.Type.String()+": "+e.Reason)
	}
}
