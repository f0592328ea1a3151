package outage

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/test/wait"
)

// patience is how long a test waits for what takes seconds. Only a test that fails waits as long.
const patience = 2 * time.Minute

// skew is by how much clocks may differ here: they do not.
const skew = time.Second

// options say what differs between the meshes of these tests.
type options struct {
	leaf  time.Duration // the life of leaves; 0: a day
	first func(now time.Time) (*identity.Authority, error)
}

// town is a mesh without a cluster, with the pods web and catalog of namespace shop.
type town struct {
	t       *testing.T
	options options
	ground
	mesh atomic.Pointer[local.Mesh] // the control plane's process
	stop func()                     // ends the control plane, signer and all
	web  *pod                       // calls catalog
	shop *pod                       // catalog's
}

// ground is what there is before anything runs.
type ground struct {
	net    netip.Prefix // of pods and of the control plane
	dir    string
	binary string // of Envoy
	scan   *secrets.Scan
}

func prepare(t *testing.T) ground {
	t.Helper()
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a test's name is part of that, and the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "outage-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return ground{loopback.Reserve(t), dir, binary, secrets.New(t)}
}

// start gives a mesh that serves.
func start(t *testing.T, o options) *town {
	t.Helper()
	m := &town{t: t, options: o, ground: prepare(t)}
	if err := os.Mkdir(m.manifests(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.manifests(), "mesh.yaml"), []byte(m.yaml()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.scan.LookAtFiles(m.dir, filepath.Join(m.ca(), "ca.json")) }) // when nobody writes any more
	m.serve()
	eventually(m.t, "the CA is there", func() bool { return m.keeper().Ready() == nil })
	m.web, m.shop = m.pod(t, "web", 1), m.pod(t, "catalog", 2)
	for _, p := range []*pod{m.web, m.shop} {
		m.open(p)
	}
	for _, p := range []*pod{m.web, m.shop} {
		p.wait(t)
	}
	return m
}

func (m *town) manifests() string { return filepath.Join(m.dir, "manifests") }
func (m *town) ca() string        { return filepath.Join(m.dir, "ca") }

// at is an address of the mesh: of pods (0), of applications (1), of the control plane (2).
func (g ground) at(what, number byte) netip.Addr {
	b := g.net.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], what, number})
}

// serve starts a control plane, at the same addresses and with the same CA as the one before.
func (m *town) serve() {
	m.t.Helper()
	log, metrics := m.scan.Log("the control plane"), prometheus.NewRegistry()
	mesh, err := local.New(local.Options{
		Dir: m.dir, CA: m.ca(), Signer: m.at(2, 1).String() + ":9001", Sidecars: m.at(2, 1).String() + ":9002",
		Lifetime: m.options.leaf, Tokens: 2 * time.Second, Skew: skew, First: controlplane.FirstCA{Make: m.options.first},
		Plane: controlplane.Options{
			Source: kube.NewFolder(kube.FolderOptions{Dir: m.manifests(), Log: log}), Drain: time.Millisecond, Registry: metrics, Log: log,
		},
		Log: log,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.mesh.Store(mesh)
	stop := wait.Background(m.t, "control plane", mesh.Run)
	m.stop = wait.Lastly(m.t, func() {
		m.scan.LookAtMetrics(metrics)
		stop()
	})
}

// restart stops the control plane and starts another one in its place.
func (m *town) restart() {
	m.t.Helper()
	m.stop()
	m.serve()
	eventually(m.t, "the CA is there", func() bool { return m.keeper().Ready() == nil })
}

func (m *town) keeper() *keep.Keeper { return m.mesh.Load().Signer().Keeper() }

// open runs the sidecar of a pod, which joins whichever control plane there is.
func (m *town) open(p *pod) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	key := model.Key{Namespace: "shop", Name: p.name}
	s, err := m.mesh.Load().Sidecar(ctx, local.SidecarOptions{
		Pod:  key,
		Join: func(ctx context.Context) (sidecar.Token, error) { return m.mesh.Load().Join(ctx, key) },
		Envoy: envoy.Options{
			Binary: m.binary, Bootstrap: bootstrap.Options{Capture: p.capture},
			Caller:      bootstrap.Caller{Namespace: "shop", Account: p.name},
			Concurrency: 1, StopTimeout: time.Second, Log: m.scan.Log("the Envoy of " + p.name), Dir: m.dir,
		},
		Log: m.scan.Log("the agent of " + p.name),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	p.ready, p.admin = s.Ready, s.Get
	stop := wait.Background(m.t, "sidecar of "+p.name, s.Run)
	p.stop = wait.Lastly(m.t, func() {
		m.scan.LookAtEnvoy(p.name, s)
		stop()
	})
}

// rotate begins to move to another authority, nil for a new root.
func (m *town) rotate(next *identity.Authority) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := m.keeper().Rotate(ctx, next); err != nil {
		m.t.Fatal(err)
	}
}

// reach waits for a phase of the rotation.
func (m *town) reach(phase identity.Phase) {
	m.t.Helper()
	begin := time.Now()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the rotation stands so: %+v", m.keeper().Progress())
		}
	}()
	eventually(m.t, "the rotation is "+string(phase), func() bool { return m.keeper().Progress().Phase == phase })
	m.t.Logf("phase %s after %v", phase, time.Since(begin).Round(time.Millisecond))
}

// rotated waits for the end of a rotation away from an authority.
func (m *town) rotated(old string) {
	m.t.Helper()
	eventually(m.t, "the rotation has begun", func() bool { return m.keeper().Progress().Phase != identity.Steady || m.signer() != old })
	m.reach(identity.Steady)
	p := m.keeper().Progress()
	if p.Signer == old || len(p.Authority) != 1 || p.Fault != "" {
		m.t.Fatalf("after the rotation: %+v", p)
	}
}

// signer is the name of who signs.
func (m *town) signer() string { return m.keeper().Progress().Signer }

// domain is the trust domain of these tests.
func domain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(controlplane.DefaultTrustDomain)
}

// yaml is what the control plane reads. All clients here speak first, and soon: a sidecar that waits longer for that than
// it does by default does not take the beginning of a handshake that a busy machine delays for an application's bytes.
func (m *town) yaml() string {
	text := `apiVersion: v1
kind: ConfigMap
metadata: {name: mesh, namespace: heddle-system, labels: {heddle.dev/policy: "true"}}
data: {mesh.yaml: "{kind: Mesh, detectionTimeout: 10s}"}
---
`
	for i, name := range []string{"web", "catalog"} {
		at := m.at(0, byte(i+1))
		text += fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop, labels: {app: %[1]s, %[3]s: "true"}}
spec:
  serviceAccountName: %[1]s
  containers: [{name: app, image: "example/%[1]s:1", ports: [{containerPort: %[4]d}, {containerPort: %[5]d}]}]
status: {phase: Running, podIP: %[2]s, podIPs: [{ip: %[2]s}]}
---
`, name, at, model.SidecarLabel, portHTTP, portTCP)
	}
	return text + fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  clusterIP: %[1]s
  clusterIPs: [%[1]s]
  selector: {app: catalog}
  ports: [{name: http, port: %[3]d}, {name: tcp, port: %[4]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: %[3]d}, {name: tcp, port: %[4]d}]
endpoints:
- {addresses: [%[2]s], conditions: {ready: true}, targetRef: {kind: Pod, namespace: shop, name: catalog}}
`, serviceIP, m.at(0, 2), portHTTP, portTCP)
}

// eventually waits for ok to hold, asking it again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, patience, what, ok)
}
