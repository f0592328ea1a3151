package wire

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/local"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
)

// Mesh is a control plane with a sidecar and an application for every pod of an example.
type Mesh struct {
	t         *testing.T
	manifests *manifests
	folder    string // what the control plane reads
	control   *control
	scan      *secrets.Scan
	sidecars  map[string]*local.Sidecar // by pod
	callers   map[string]*Caller        // by pod
	apps      map[string]*App           // by pod:port
	order     []string                  // the keys of apps
}

// flush is how often sidecars send their statistics, from which the control plane learns of failing applications.
const flush = 500 * time.Millisecond

// Start runs examples/NAME.yaml and returns when every sidecar serves. Everything ends with the test.
func Start(t *testing.T, example string) *Mesh {
	t.Helper()
	pods := loopback.Reserve(t)
	manifests, err := readExample(example, pods)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a test's name is part of that, and the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "wire-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the mesh's files: %v", err)
		}
	})
	m := &Mesh{
		t: t, manifests: manifests, folder: filepath.Join(dir, "manifests"),
		scan: secrets.New(t), sidecars: map[string]*local.Sidecar{}, callers: map[string]*Caller{}, apps: map[string]*App{},
	}
	if err := os.Mkdir(m.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	m.write(manifests.text)
	m.control = startControl(t, m.scan, m.folder, dir)
	m.startPods(pods, dir)
	m.waitReady()
	t.Cleanup(func() { m.lookForSecrets(dir) })
	return m
}

func (m *Mesh) write(text string) {
	m.t.Helper()
	// Renamed into place, as an editor does: a half-written file is not what these tests are about.
	tmp := filepath.Join(m.folder, ".mesh.yaml")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(m.folder, "mesh.yaml")); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Mesh) startPods(network netip.Prefix, dir string) {
	m.t.Helper()
	binary, err := envoy.Find(m.t.Context(), envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		m.t.Fatal(err)
	}
	b := network.Addr().As4()
	for i, pod := range m.manifests.pods {
		meshed := pod.Labels[model.SidecarLabel] == "true"
		at := pod.Status.PodIP
		if meshed {
			app := netip.AddrFrom4([4]byte{b[0], b[1], 255, byte(i + 1)})
			at = app.String()
			bind := loopback.Reserve(m.t)
			m.callers[pod.Name] = newCaller(m, pod.Name, bind)
			m.sidecars[pod.Name] = m.startSidecar(binary, dir, pod, bootstrap.Capture{Bind: bind, App: app})
		}
		for _, container := range pod.Spec.Containers {
			for _, p := range container.Ports {
				port := strconv.Itoa(int(p.ContainerPort))
				m.apps[pod.Name+":"+port] = startApp(m.t, pod.Name, net.JoinHostPort(at, port))
				m.order = append(m.order, pod.Name+":"+port)
			}
		}
	}
}

func (m *Mesh) startSidecar(binary, dir string, pod corev1.Pod, capture bootstrap.Capture) *local.Sidecar {
	where := m.manifests.zones[pod.Spec.NodeName]
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	p, err := m.control.mesh.Sidecar(ctx, local.SidecarOptions{
		Pod: model.Key{Namespace: pod.Namespace, Name: pod.Name},
		Log: m.scan.Log("the agent of " + pod.Name),
		Envoy: envoy.Options{
			Binary: binary,
			Bootstrap: bootstrap.Options{
				Region: where.region, Zone: where.zone, Capture: capture, HealthChecks: true, FlushInterval: flush,
			},
			Caller:      bootstrap.Caller{Namespace: pod.Namespace, Account: pod.Spec.ServiceAccountName, Labels: pod.Labels},
			Concurrency: 1, // each worker balances, pools connections and numbers its turns for itself
			StopTimeout: time.Second,
			Log:         m.scan.Log("the Envoy of " + pod.Name),
			Dir:         dir,
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	run(m.t, "sidecar of "+pod.Name, p.Run)
	return p
}

// run runs something long-lived until the test's clean-up, and fails the test if it ends with an error.
func run(t testing.TB, what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}

func (m *Mesh) waitReady() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for pod, p := range m.sidecars {
		if err := p.Ready(ctx); err != nil {
			m.t.Fatalf("sidecar of %s: %v", pod, err)
		}
	}
}

// Run runs a part of a test on the same mesh, with applications as they were at the start.
func (m *Mesh) Run(name string, part func(t *testing.T)) {
	m.t.Helper()
	whole := m.t
	whole.Run(name, func(t *testing.T) {
		m.bind(t)
		defer m.bind(whole)
		for _, a := range m.apps {
			a.reset()
		}
		part(t)
	})
}

// bind lets everything report to t.
func (m *Mesh) bind(t *testing.T) {
	m.t = t
	for _, c := range m.callers {
		c.t = t
	}
	for _, a := range m.apps {
		a.t = t
	}
}

// Edit replaces old by replacement on the lines of the example that hold mark, as a person would in an editor. It does
// not wait for the change to have effect.
func (m *Mesh) Edit(mark, old, replacement string) {
	m.t.Helper()
	lines, found := strings.Split(m.manifests.text, "\n"), false
	for i, line := range lines {
		if strings.Contains(line, mark) && strings.Contains(line, old) {
			lines[i], found = strings.ReplaceAll(line, old, replacement), true
		}
	}
	if !found {
		m.t.Fatalf("no line of the example holds both %q and %q", mark, old)
	}
	m.manifests.text = strings.Join(lines, "\n")
	m.write(m.manifests.text)
}

// Eventually waits for ok to hold, asking it again and again.
func (m *Mesh) Eventually(what string, ok func() bool) {
	m.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			m.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// Get sends a GET request from the pod web.
func (m *Mesh) Get(url string, options ...Option) *Response {
	m.t.Helper()
	return m.Caller("web").Get(url, options...)
}

// Caller calls as the pod of that name.
func (m *Mesh) Caller(pod string) *Caller {
	m.t.Helper()
	c, ok := m.callers[pod]
	if !ok {
		m.t.Fatalf("the example has no pod %s with a sidecar", pod)
	}
	return c
}

// Sidecar is the Envoy of a pod.
func (m *Mesh) Sidecar(pod string) *local.Sidecar {
	m.t.Helper()
	p, ok := m.sidecars[pod]
	if !ok {
		m.t.Fatalf("the example has no pod %s with a sidecar", pod)
	}
	return p
}

// Outsider calls pods by their names, without a sidecar of its own.
func (m *Mesh) Outsider() *Caller { return newCaller(m, "", netip.Prefix{}) }

// App is the application of a pod that has one port.
func (m *Mesh) App(pod string) *App {
	m.t.Helper()
	apps := m.Apps(pod)
	if len(apps) != 1 || apps[0].Pod != pod {
		m.t.Fatalf("the example has %d applications %s", len(apps), pod)
	}
	return apps[0]
}

// AppAt is the application of a pod at one of its ports.
func (m *Mesh) AppAt(pod string, port int) *App {
	m.t.Helper()
	a, ok := m.apps[pod+":"+strconv.Itoa(port)]
	if !ok {
		m.t.Fatalf("the example has no pod %s with port %d", pod, port)
	}
	return a
}

// Apps are the applications of all pods whose name begins so.
func (m *Mesh) Apps(prefix string) Apps {
	m.t.Helper()
	var all Apps
	for _, key := range m.order {
		if strings.HasPrefix(key, prefix) {
			all = append(all, m.apps[key])
		}
	}
	if len(all) == 0 {
		m.t.Fatalf("the example has no application %s", prefix)
	}
	return all
}

// resolve gives the address at which a caller reaches service:port or pod:port: for an outsider the pod's own, for
// others where their sidecar binds it, see translator.Capture.
func (m *Mesh) resolve(c *Caller, hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		m.t.Fatalf("address %s: %v", hostport, err)
	}
	pod := slices.IndexFunc(m.manifests.pods, func(p corev1.Pod) bool { return p.Name == host })
	if pod >= 0 {
		return net.JoinHostPort(c.at(m.manifests.pods[pod].Status.PodIP), port)
	}
	name, namespace, ok := strings.Cut(host, ".")
	if !ok {
		namespace = "shop"
	}
	s, ok := m.manifests.services[namespace+"/"+name]
	if !ok {
		m.t.Fatalf("the example has no Service %s in %s", name, namespace)
	}
	return net.JoinHostPort(c.at(s.Spec.ClusterIP), port)
}
